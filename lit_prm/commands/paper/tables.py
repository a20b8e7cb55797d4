"""The paper's tables from recorded runs, its own numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_prm.commands.paper.claims import COST, POLICY, VARIANTS
from lit_prm.commands.paper.methods import BY_COST, LABELS, ROWS, TEXTS
from lit_prm.commands.paper.results import Line, PaperResults, of_metric, ratio
from lit_prm.evaluation.estimate import NOTHING, Estimate, gain, level, number, percent, plus_minus, power
from lit_prm.evaluation.tables import Cell, Table
from lit_prm.models.flops import assumptions
from lit_prm.reports.paper_numbers import COUNTS, PAPER_ROW, Paper, PaperRow

MAJORITY = "majority"


def standing(difference: Estimate | None) -> str:
    """`+3.1 above`, `-2.0 below`, `+0.5 noise`: the last word says where the interval of a difference lies."""
    if difference is None:
        return NOTHING
    place = "above" if difference.low > 0 else "below" if difference.high < 0 else "noise"
    return f"{difference.mean:+.1f} {place}"


def times(ratio: Estimate | None) -> str:
    """`× 21.3`, with the range of seeds where they differ."""
    if ratio is None:
        return NOTHING
    return f"× {level(ratio) if ratio.high - ratio.low > 0.05 else number(ratio.mean)}"


def table_1(results: PaperResults, paper: Paper) -> Table:
    """Best-of-N of every method on every candidate set, and its difference to the majority vote and Math-Shepherd."""
    rows = list(_untrained_rows(results, paper))
    for name in ROWS["table-1"]:
        line = Line(name)
        to = [results.difference(line, other) for other in (Line(name, MAJORITY), Line("shepherd-8resp-hard"))]
        against = [standing(to[0]), NOTHING if name == "shepherd-8resp-hard" else standing(to[1])]
        rows += _rows(results, line, LABELS[name], paper.rows.get(PAPER_ROW.get(name, name)), against)
    rows += [[*_paper_row(results, paper.rows[name], paper.rows[name].label), "", ""] for name in TEXTS["published"]]
    return _table([*_heading(results), "to majority", "to Math-Shepherd, hard"], rows)


def _untrained_rows(results: PaperResults, paper: Paper) -> Iterator[list[str]]:
    theirs = {"bon/random": paper.rows["random"], "bon/reference-min": paper.rows["base-0resp"]}
    for curve, label in TEXTS["untrained"].items():
        line, majority = results.shared(curve), results.shared(MAJORITY)
        to_majority = None if curve == MAJORITY else results.difference(line, majority)
        to_shepherd = results.difference(line, Line("shepherd-8resp-hard"))
        against = [standing(to_majority), standing(to_shepherd)]
        yield from _rows(results, line, label, theirs.get(curve), against)
        if curve == MAJORITY:  # of which the paper gives the mean only
            blank = [""] * (len(results.sets) * len(COUNTS))
            yield [Cell("paper", "theirs"), *blank, Cell(str(paper.majority), "theirs"), "", ""]


def _heading(results: PaperResults) -> list[str]:
    return ["", *(f"{name} @{n}" for name in results.sets for n in COUNTS), "mean"]


def _rows(
    results: PaperResults, line: Line, label: str, theirs: PaperRow | None, more: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Our row, and below it the paper's if there is one."""
    cells = [plus_minus(results.estimate(line, (name,), (n,))) for name in results.sets for n in COUNTS]
    yield [label, *cells, plus_minus(results.estimate(line)), *more]
    if theirs is not None:
        yield [*_paper_row(results, theirs), *[""] * len(more)]


def _paper_row(results: PaperResults, row: PaperRow, label: str = "") -> list[str]:
    """The paper's numbers; ``label`` says whose they are where the row above is not ours of the same method."""
    cells = [f"{row.accuracy[name][n]:.1f}" for name in results.sets for n in COUNTS]
    texts = (f"paper: {label}" if label else "paper", *cells, f"{row.mean(results.sets):.1f}")
    return [Cell(text, "theirs") for text in texts]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> Table:
    return Table(tuple(columns), tuple(map(tuple, rows)), notes=notes)


def cost_table(results: PaperResults, paper: Paper) -> Table:
    """FLOPs in all, their ratio to those of CE on 8 responses, and the accuracy reached."""
    rows = []
    for name in (name for names in BY_COST.values() for name in names):
        flops, tokens = (results.experiment(name).mean(key) for key in (COST, "cost/total_tokens"))
        theirs = paper.flops.get(PAPER_ROW.get(name, name))
        to_ce = None if theirs is None else theirs / paper.flops["ce-8resp"]
        rows.append([
            LABELS[name], power(flops), power(tokens), times(ratio(results, name, "ce-8resp", COST)),
            number(to_ce, ".2f"), plus_minus(results.estimate(Line(name))),
            plus_minus(results.estimate(Line(name), counts=COUNTS[-1:])),
        ])  # fmt: skip
    heading = ["", "FLOPs", "tokens", "FLOPs to CE on 8", "paper's", "best-of-N, mean", f"best of {COUNTS[-1]}"]
    return _table(heading, rows, assumptions())


def vote_table(results: PaperResults, paper: Paper) -> Table:
    """Best-of-N and weighted votes beside the plain majority, means over candidate sets and N."""
    rows = []
    for name in ROWS["figure-3"]:
        best, vote, majority = (Line(name, curve) for curve in ("bon/min", "vote/min", MAJORITY))
        row = paper.rows.get(name)
        rows.append([
            LABELS[name], plus_minus(results.estimate(best)), number(None if row is None else row.mean()),
            plus_minus(results.estimate(vote)), number(paper.votes.get(name)),
            gain(results.difference(vote, best)), gain(results.difference(vote, majority)),
        ])  # fmt: skip
    plain = results.estimate(results.shared(MAJORITY))
    rows.append(["Majority vote", "", "", plus_minus(plain), number(paper.majority), "", ""])
    heading = ["", "best-of-N", "paper's", "weighted vote", "paper's", "vote - best-of-N", "vote - majority"]
    return _table(heading, rows)


def scaling_table(results: PaperResults, paper: Paper, names: Sequence[str]) -> Table:
    """Best-of-N of experiments that were trained on different amounts of data."""
    rows = [row for name in names for row in _rows(results, Line(name), LABELS[name], paper.rows.get(name))]
    return _table(_heading(results), rows)


def table_2(results: PaperResults, paper: Paper) -> Table:
    """DPO with each addition to its data or training, and the difference that the addition makes."""
    rows = list(_rows(results, Line("dpo-8resp"), "DPO", paper.rows["dpo-8resp"], [""]))
    for name in ROWS["table-2"]:
        change = [gain(results.difference(Line(name), Line("dpo-8resp")))]
        rows += _rows(results, Line(name), LABELS[name], paper.rows.get(name), change)
        variants = (paper.rows[variant] for variant in VARIANTS.get(name, ()))
        rows += [[*_paper_row(results, row, row.label), ""] for row in variants]
    return _table([*_heading(results), "to DPO"], rows)


def table_3(results: PaperResults, paper: Paper) -> Table:
    """The reward model as a policy: greedy and sampled accuracy of what it writes itself."""
    rows = []
    for name in ROWS["table-3"]:
        accuracies = (of_metric(results, name, key) for key in (POLICY, POLICY.replace("greedy", "sampled")))
        label = "Untrained base" if name == "base-0resp" else LABELS[name]
        rows.append([label, *map(plus_minus, accuracies), number(paper.policy.get(name))])
    return _table(["policy", "greedy", "sampled", "paper's"], rows)


def table_5(results: PaperResults, paper: Paper) -> Table:
    """DPO with and without the reference in training and in scoring."""
    rows: list[list[str]] = []
    for name in ROWS["table-5"]:
        label = "DPO, reference in both" if name == "dpo-8resp" else LABELS[name]
        change = "" if name == "dpo-8resp" else gain(results.difference(Line(name), Line("dpo-8resp")))
        rows += _rows(results, Line(name), label, paper.rows[name], [change])
    return _table([*_heading(results), "to DPO"], rows)


def steps_table(results: PaperResults, paper: Paper) -> Table:
    """How often the lowest step reward is the first wrong step, on the set `test`; the paper does not measure it."""
    rows = []
    for name in ROWS["steps"]:
        located = results.estimate(Line(name, "first_error/found"), ("test",))
        auc, f1 = (results.experiment(name).mean(f"steps/test/{key}") for key in ("auc", "f1"))
        rows.append([LABELS[name], plus_minus(located), number(auc, ".3f"), percent(f1)])
    for rule, label in TEXTS["untrained_steps"].items():
        rows.append([label, plus_minus(results.estimate(results.shared(rule), ("test",))), "", ""])
    return _table(["lowest step reward of", "first wrong step found, %", "AUC of steps", "F1"], rows)
