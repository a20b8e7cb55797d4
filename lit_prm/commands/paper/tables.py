"""The paper's tables from recorded runs, its own numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from lit_prm.commands.paper import markdown as md
from lit_prm.commands.paper.claims import COST, POLICY
from lit_prm.commands.paper.methods import (
    BASELINES_BY_COST,
    CE_BY_COST,
    DPO_BY_COST,
    LABELS,
    VOTERS,
    shared,
)
from lit_prm.commands.paper.results import Line, PaperResults, of_metric, ratio
from lit_prm.models.flops import assumptions
from lit_prm.reports.paper_numbers import COUNTS, PAPER_ROW, Paper, PaperRow

MAJORITY = "majority"
_UNTRAINED = {  # curves without training that every run records
    "bon/random": "One at random",
    MAJORITY: "Majority vote",
    "bon/reference-min": "Reference log-likelihood, worst step",
    "bon/reference-sum": "Reference log-likelihood, sum",
    "bon/reference-per-token": "Reference log-likelihood, per token",
    "bon/shortest": "The shortest",
    "bon/longest": "The longest",
}
_TABLE_1 = (
    "orm-8resp", "orm-bt-8resp", "shepherd-8resp-hard", "shepherd-8resp-soft", "shepherd-8resp-hard-equaltokens",
    "autopsv-8resp", "dpo-8resp", "kto-8resp", "nca-8resp", "infonca-8resp", "ce-8resp", "ce-8resp-balanced",
    "ce-8resp-instbalanced", "ipvrm-8resp",
)  # fmt: skip
_ELSEWHERE = ("eurusrm", "skyworkrm", "armorm", "shepherd-7b", "rlhflow-mistral", "rlhflow-deepseek")
_TABLE_2 = ("irrelevant", "dedup", "mixedgen", "steplabels")
_STEPS = (
    "dpo-8resp", "ce-8resp", "nca-8resp", "kto-8resp", "ipvrm-8resp", "dpo-8resp-steplabels",
    "shepherd-8resp-hard", "shepherd-8resp-soft", "autopsv-8resp",
)  # fmt: skip


def table_1(results: PaperResults, paper: Paper) -> str:
    """Best-of-N of every method on every candidate set, with how it stands to the majority and to Math-Shepherd."""
    rows = list(_untrained_rows(results, paper))
    for name in _TABLE_1:
        line = Line(name)
        to = [results.difference(line, other) for other in (Line(name, MAJORITY), Line("shepherd-8resp-hard"))]
        standing = [md.against(to[0]), md.NOTHING if name == "shepherd-8resp-hard" else md.against(to[1])]
        rows += _rows(results, line, LABELS[name], paper.rows.get(PAPER_ROW.get(name, name)), standing)
    rows += [[*_paper_row(results, paper.rows[name], paper.rows[name].label), "", ""] for name in _ELSEWHERE]
    return md.table([*_heading(results), "to majority", "to Math-Shepherd, hard"], rows)


def _untrained_rows(results: PaperResults, paper: Paper) -> Iterator[list[str]]:
    theirs = {"bon/random": paper.rows["random"], "bon/reference-min": paper.rows["base-0resp"]}
    for curve, label in _UNTRAINED.items():
        line, majority = shared(results, curve), shared(results, MAJORITY)
        to_majority = None if curve == MAJORITY else results.difference(line, majority)
        to_shepherd = results.difference(line, Line("shepherd-8resp-hard"))
        standing = [md.against(to_majority), md.against(to_shepherd)]
        yield from _rows(results, line, label, theirs.get(curve), standing)
        if curve == MAJORITY:  # known as a mean alone
            blank = [""] * (len(results.sets) * len(COUNTS))
            yield ["*paper*", *blank, f"*{paper.majority}*", "", ""]


def _heading(results: PaperResults) -> list[str]:
    return ["", *(f"{name} @{n}" for name in results.sets for n in COUNTS), "mean"]


def _rows(
    results: PaperResults, line: Line, label: str, theirs: PaperRow | None, standing: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Our row, and below it the paper's if there is one."""
    cells = [md.level(results.estimate(line, (name,), (n,))) for name in results.sets for n in COUNTS]
    yield [label, *cells, md.level(results.estimate(line)), *standing]
    if theirs is not None:
        yield [*_paper_row(results, theirs), *[""] * len(standing)]


def _paper_row(results: PaperResults, row: PaperRow, label: str = "") -> list[str]:
    """In italics; ``label`` where the row above isn't ours to the same thing."""
    cells = [f"*{row.accuracy[name][n]:.1f}*" for name in results.sets for n in COUNTS]
    return [f"*paper: {label}*" if label else "*paper*", *cells, f"*{row.mean(results.sets):.1f}*"]


def cost_table(results: PaperResults, paper: Paper) -> str:
    """FLOPs in all, their ratio to CE's on 8 responses, what they bought, and what they count."""
    rows = []
    for name in (*CE_BY_COST, *DPO_BY_COST, *BASELINES_BY_COST):
        flops, tokens = (_mean(results.metric(name, key)) for key in (COST, "cost/total_tokens"))
        theirs = paper.flops.get(PAPER_ROW.get(name, name))
        to_ce = None if theirs is None else theirs / paper.flops["ce-8resp"]
        rows.append([
            LABELS[name], md.power(flops), md.power(tokens), md.times(ratio(results, name, "ce-8resp", COST)),
            md.plain(to_ce, 2), md.level(results.estimate(Line(name))),
            md.level(results.estimate(Line(name), counts=COUNTS[-1:])),
        ])  # fmt: skip
    heading = ["", "FLOPs", "tokens", "FLOPs to CE on 8", "paper's", "best-of-N, mean", f"best of {COUNTS[-1]}"]
    return f"{md.table(heading, rows)}\n\n{assumptions()}\n"


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def vote_table(results: PaperResults, paper: Paper) -> str:
    """Best-of-N and weighted votes beside the plain majority, means over candidate sets and N."""
    rows = []
    for name in VOTERS:
        best, vote, majority = (Line(name, curve) for curve in ("bon/min", "vote/min", MAJORITY))
        row = paper.rows.get(name)
        rows.append([
            LABELS[name], md.level(results.estimate(best)), md.plain(None if row is None else row.mean()),
            md.level(results.estimate(vote)), md.plain(paper.votes.get(name)),
            md.gain(results.difference(vote, best)), md.gain(results.difference(vote, majority)),
        ])  # fmt: skip
    plain = results.estimate(shared(results, MAJORITY))
    rows.append(["Majority vote", "", "", md.level(plain), md.plain(paper.majority), "", ""])
    heading = ["", "best-of-N", "paper's", "weighted vote", "paper's", "vote - best-of-N", "vote - majority"]
    return md.table(heading, rows)


def scaling_table(results: PaperResults, paper: Paper, names: Sequence[str]) -> str:
    """Best-of-N of experiments that differ in how much data they saw."""
    rows = [row for name in names for row in _rows(results, Line(name), LABELS[name], paper.rows.get(name))]
    return md.table(_heading(results), rows)


def table_2(results: PaperResults, paper: Paper) -> str:
    """DPO and what may be added to it, with the difference each makes."""
    rows = list(_rows(results, Line("dpo-8resp"), "DPO", paper.rows["dpo-8resp"], [""]))
    for kind in _TABLE_2:
        name = f"dpo-8resp-{kind}"
        change = [md.gain(results.difference(Line(name), Line("dpo-8resp")))]
        rows += _rows(results, Line(name), LABELS[name], paper.rows.get(name), change)
        if kind == "irrelevant":
            added = (paper.rows[f"dpo-8resp-{one}"] for one in ("general", "code"))
            rows += [[*_paper_row(results, row, row.label), ""] for row in added]
    return md.table([*_heading(results), "to DPO"], rows)


def table_3(results: PaperResults, paper: Paper) -> str:
    """The reward model as a policy: greedy and sampled accuracy of what it writes itself."""
    names = ("base-0resp", "dpo-8resp", "kto-8resp", "nca-8resp", "infonca-8resp", "ce-8resp", "ipvrm-8resp")
    rows = []
    for name in names:
        found = (of_metric(results, name, key) for key in (POLICY, POLICY.replace("greedy", "sampled")))
        label = "Untrained base" if name == "base-0resp" else LABELS[name]
        rows.append([label, *map(md.level, found), md.plain(paper.policy.get(name))])
    return md.table(["policy", "greedy", "sampled", "paper's"], rows)


def table_5(results: PaperResults, paper: Paper) -> str:
    """DPO with and without the reference in training and in scoring."""
    rows: list[list[str]] = []
    for name in ("base-0resp", "dpo-8resp", "dpo-8resp-noref-infer", "dpo-8resp-noref-train", "dpo-8resp-noref"):
        label = "DPO, reference in both" if name == "dpo-8resp" else LABELS[name]
        change = "" if name == "dpo-8resp" else md.gain(results.difference(Line(name), Line("dpo-8resp")))
        rows += _rows(results, Line(name), label, paper.rows[name], [change])
    return md.table([*_heading(results), "to DPO"], rows)


def steps_table(results: PaperResults, paper: Paper) -> str:
    """What the paper doesn't measure: do step rewards find the first wrong step? On the set `test`."""
    rows = []
    for name in _STEPS:
        found = results.estimate(Line(name, "first_error/found"), ("test",))
        auc, f1 = (_mean(results.metric(name, f"steps/test/{key}")) for key in ("auc", "f1"))
        rows.append([LABELS[name], md.level(found), md.plain(auc, 3), md.plain(None if f1 is None else 100 * f1)])
    for rule, label in (
        ("reference", "Least likely step under the reference"),
        ("position", "Commonest place of first errors"),
        ("chance", "A random step"),
    ):
        found = results.estimate(shared(results, f"first_error/{rule}"), ("test",))
        rows.append([label, md.level(found), "", ""])
    return md.table(["lowest step reward of", "first wrong step found, %", "AUC of steps", "F1"], rows)
