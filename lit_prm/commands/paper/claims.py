"""The claims of the paper, each with the paper's evidence, a measurement on our runs and a rule for the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from lit_prm.commands.paper.results import Line, PaperResults, metric_difference, ratio
from lit_prm.commands.paper.rules import Above, Below, ClaimVerdict, Dearer, Kept, Rule, Same
from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.paper_numbers import Paper

COST = "cost/total_flops"
POLICY = "policy/test/greedy"


@dataclass(frozen=True)
class Claim:
    """One sentence that ``measure`` and ``rule`` test; ``paper`` is its evidence, empty if the paper has none."""

    section: str
    sentence: str
    paper: str
    measure: Callable[[PaperResults], Estimate | None]
    rule: Rule
    unit: str = "points"

    def judged(self, results: PaperResults) -> tuple[Estimate | None, ClaimVerdict]:
        """The estimate from our runs, and the verdict of the rule."""
        estimate = self.measure(results)
        return estimate, self.rule.verdict(estimate)


def claims(paper: Paper) -> list[Claim]:
    """All claims in the order of the paper's tables and figures, then those on steps."""
    parts = (_table_1, _costs, _votes, _instructions, _responses, _table_2, _table_3, _table_5)
    return [claim for part in parts for claim in part(paper)] + list(_steps())


def _by(ours: Line, theirs: Line) -> Callable[[PaperResults], Estimate | None]:
    return lambda results: results.difference(ours, theirs)


def _pair(
    section: str, sentence: str, ours: str, theirs: str, paper: Paper, rule: Rule | None = None, row: str = ""
) -> Claim:
    """Two experiments' best-of-N; ``row`` is the paper's row where it is not called like ``theirs``."""
    a, b = paper.rows[ours], paper.rows[row or theirs]
    evidence = f"{a.mean() - b.mean():+.1f} ({a.mean():.1f} against {b.mean():.1f})"
    return Claim(section, sentence, evidence, _by(Line(ours), Line(theirs)), rule or Above())


def _within(section: str, sentence: str, experiment: str, ours: str, theirs: str, evidence: str) -> Claim:
    """Two curves of one experiment."""
    return Claim(section, sentence, evidence, _by(Line(experiment, ours), Line(experiment, theirs)), Above())


# --- table 1, figures 1 and 2 ---------------------------------------------------------------------


def _table_1(paper: Paper) -> Iterator[Claim]:
    at = "table-1"
    for ours, loss in (("dpo-8resp", "DPO"), ("ce-8resp", "CE")):
        for labels in ("hard", "soft"):
            theirs = f"shepherd-8resp-{labels}"
            sentence = f"Implicit PRM ({loss}) chooses better than Math-Shepherd ({labels} labels)"
            yield _pair(at, sentence, ours, theirs, paper, row="shepherd-8resp")
        yield _pair(at, f"Implicit PRM ({loss}) chooses better than AutoPSV", ours, "autopsv-8resp", paper)
    yield _pair(at, "DPO chooses at least as well as NCA", "dpo-8resp", "nca-8resp", paper, Kept())
    yield _pair(at, "NCA chooses better than CE", "nca-8resp", "ce-8resp", paper)
    yield _pair(at, "CE chooses better than KTO", "ce-8resp", "kto-8resp", paper)
    # the paper's outcome reward models were trained on other data: no evidence to set beside
    measure = _by(Line("dpo-8resp"), Line("orm-8resp"))
    yield Claim(at, "Implicit PRM (DPO) chooses better than an outcome reward model", "", measure, Above())
    evidence = f"{paper.rows['dpo-8resp'].mean() - paper.majority:+.1f}"
    yield _within(at, "Best-of-N by DPO beats the majority vote", "dpo-8resp", "bon/min", "majority", evidence)
    sentence = "Balancing right and wrong over the whole data set hurts CE"
    yield _pair(at, sentence, "ce-8resp-balanced", "ce-8resp", paper, Below())
    sentence = "Balancing right and wrong within each instruction helps CE"
    yield _pair(at, sentence, "ce-8resp-instbalanced", "ce-8resp", paper)


def _costs(paper: Paper) -> Iterator[Claim]:
    at = "figures-1-2"
    of = paper.cost_ratios
    hard, to_dpo = "shepherd-8resp-hard", of["shepherd-8resp"] / of["dpo-8resp"]
    pairs = (
        ("Math-Shepherd costs more than CE", hard, "ce-8resp", of["shepherd-8resp"]),
        ("Math-Shepherd costs more than DPO", hard, "dpo-8resp", to_dpo),
        ("AutoPSV costs more than CE", "autopsv-8resp", "ce-8resp", of["autopsv-8resp"]),
        (
            "DPO on all pairs costs more than CE (not here: no response is read twice)",
            "dpo-8resp",
            "ce-8resp",
            of["dpo-8resp"],
        ),
    )
    for sentence, ours, theirs, evidence in pairs:
        measure = partial(ratio, ours=ours, theirs=theirs, key=COST)
        yield Claim(at, sentence, f"× {evidence:.1f}", measure, Dearer(), "times")
    for ours, loss in (("dpo-8resp", "DPO"), ("ce-8resp", "CE")):
        sentence = f"For as many tokens in all, {loss} chooses better than Math-Shepherd (hard labels)"
        yield Claim(at, sentence, "", _by(Line(ours), Line("shepherd-8resp-hard-equaltokens")), Above())


# --- figures 3, 4 and 5 ---------------------------------------------------------------------------


def _votes(paper: Paper) -> Iterator[Claim]:
    at = "figure-3"
    for experiment, vote in paper.votes.items():
        loss = experiment.partition("-")[0].upper()
        over = f"{vote - paper.majority:+.1f}"
        yield _within(at, f"Votes weighted by {loss} beat the majority vote", experiment, "vote/min", "majority", over)
        over = f"{vote - paper.rows[experiment].mean():+.1f}"
        yield _within(at, f"Votes weighted by {loss} beat its best-of-N", experiment, "vote/min", "bon/min", over)
    gap = f"{paper.votes['ce-8resp'] - paper.votes['dpo-8resp']:+.1f}"
    measure = _by(Line("ce-8resp", "vote/min"), Line("dpo-8resp", "vote/min"))
    yield Claim(at, "With votes, CE is as good as DPO", gap, measure, Same())


def _instructions(paper: Paper) -> Iterator[Claim]:
    for loss in ("dpo", "ce"):
        sentence = f"{loss.upper()} chooses better with all instructions than with a quarter"
        yield _pair("figure-4", sentence, f"{loss}-8resp", f"{loss}-8resp-25inst", paper)


def _responses(paper: Paper) -> Iterator[Claim]:
    at = "figure-5"
    yield _pair(at, "DPO chooses better from 8 responses than from 2", "dpo-8resp", "dpo-2resp", paper)
    yield _pair(at, "CE chooses better from 8 responses than from 1", "ce-8resp", "ce-1resp", paper)
    gap = f"{paper.gap('ce-1resp', 'random'):+.1f}"
    sentence = "CE with one response per instruction chooses better than chance"
    yield _within(at, sentence, "ce-1resp", "bon/min", "bon/random", gap)
    sentence = "CE with one response chooses better than DPO with two, which starves"
    yield _pair(at, sentence, "ce-1resp", "dpo-2resp", paper)
    for loss in ("dpo", "ce"):
        for share, few in ((25, 2), (50, 4)):
            ours, theirs = f"{loss}-8resp-{share}inst", f"{loss}-{few}resp"
            better = paper.rows[ours].mean() > paper.rows[theirs].mean()  # for CE its figures contradict its text
            sentence = (
                f"From as many rollouts, {loss.upper()} chooses {'better' if better else 'worse'} with 8 responses "
                f"to {share} % of the instructions than with {few} to all"
            )
            yield _pair(at, sentence, ours, theirs, paper, Above() if better else Below())


# --- tables 2, 3 and 5 ----------------------------------------------------------------------------


def _table_2(paper: Paper) -> Iterator[Claim]:
    at, base = "table-2", "dpo-8resp"
    gaps = [f"{paper.gap(f'{base}-{kind}', base):+.1f}" for kind in ("general", "code")]
    evidence = f"{gaps[0]} (general), {gaps[1]} (code)"
    added = Line(f"{base}-irrelevant")
    yield Claim(at, "Irrelevant instructions bring nothing", evidence, _by(added, Line(base)), Same())
    for name, what in (
        ("dedup", "Removing near-duplicate responses brings"),
        ("mixedgen", "Taking half of the responses from a second generator brings"),
        ("steplabels", "A second stage on step labels brings"),
    ):
        yield _pair(at, f"{what} nothing", f"{base}-{name}", base, paper, Same())


def _table_3(paper: Paper) -> Iterator[Claim]:
    base = "base-0resp"
    for loss in ("dpo", "ce", "nca", "kto"):
        ours = f"{loss}-8resp"
        kept = loss == "kto"
        sentence = f"As a policy, the model {'stays as good' if kept else 'gets worse'} by {loss.upper()} training"
        evidence = f"{paper.policy[ours] - paper.policy[base]:+.1f} ({paper.policy[base]} to {paper.policy[ours]})"
        measure = partial(metric_difference, ours=ours, theirs=base, key=POLICY)
        yield Claim("table-3", sentence, evidence, measure, Kept() if kept else Below())


def _table_5(paper: Paper) -> Iterator[Claim]:
    at, base = "table-5", "dpo-8resp"
    for name, where in (("noref-infer", "in scoring"), ("noref-train", "in training"), ("noref", "in both")):
        yield _pair(at, f"Leaving out the reference {where} costs nothing", f"{base}-{name}", base, paper, Kept())
    sentence = "The trained model chooses better than the log-likelihood of its untrained base"
    yield _pair(at, sentence, base, "base-0resp", paper)
    gap = f"{paper.gap('base-0resp', 'random'):+.1f}"
    sentence = "The log-likelihood of the untrained base chooses better than chance"
    yield _within(at, sentence, "base-0resp", "bon/min", "bon/random", gap)


# --- steps ----------------------------------------------------------------------------------------


def _steps() -> Iterator[Claim]:
    for experiment, loss in (("dpo-8resp", "DPO"), ("ce-8resp", "CE")):
        for rule, than in (
            ("chance", "a random step"),
            ("position", "the commonest place"),
            ("reference", "the least likely step under the reference"),
        ):
            sentence = f"The lowest step reward of {loss} is the first wrong step more often than {than}"
            yield _within("steps", sentence, experiment, "first_error/found", f"first_error/{rule}", "")
        theirs = Line("shepherd-8resp-hard", "first_error/found")
        sentence = f"{loss} finds the first wrong step more often than Math-Shepherd (hard labels)"
        yield Claim("steps", sentence, "", _by(Line(experiment, "first_error/found"), theirs), Above())
