"""The claims of the paper (`paper.yaml`), each with the paper's evidence, a measurement on our runs and a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lit_prm.commands.paper.methods import PARTS
from lit_prm.commands.paper.results import Line, PaperResults, metric_difference, ratio
from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.paper_numbers import PAPER_ROW, Paper

MARGIN = 3.0  # points that count as no difference


class ClaimVerdict(StrEnum):
    """The answer to "the same as in the paper?"."""

    YES = "yes"
    NO = "no"
    NOISE = "within noise"
    MISSING = "not measured"


@dataclass(frozen=True)
class Rule:
    """Turns an estimate with its interval into a verdict; `paper.yaml` explains every rule to readers."""

    holds: Callable[[Estimate], bool]
    fails: Callable[[Estimate], bool]

    def verdict(self, estimate: Estimate | None) -> ClaimVerdict:
        """The verdict on an estimate; MISSING if there is none."""
        if estimate is None:
            return ClaimVerdict.MISSING
        if self.holds(estimate):
            return ClaimVerdict.YES
        return ClaimVerdict.NO if self.fails(estimate) else ClaimVerdict.NOISE


RULES = {
    "above": Rule(lambda e: e.low > 0, lambda e: e.high < 0),
    "below": Rule(lambda e: e.high < 0, lambda e: e.low > 0),
    "same": Rule(
        lambda e: -MARGIN < e.low <= e.high < MARGIN, lambda e: abs(e.mean) > MARGIN and not e.low <= 0 <= e.high
    ),
    "kept": Rule(lambda e: e.low > -MARGIN, lambda e: e.high < 0 and e.mean < -MARGIN),
    "dearer": Rule(lambda e: e.low > 1, lambda e: e.high < 1),  # of ratios of costs
}

COST = "cost/total_flops"
POLICY = "policy/test/greedy"
VARIANTS = {"dpo-8resp-irrelevant": ("dpo-8resp-general", "dpo-8resp-code")}
"""Experiment -> the paper's rows that it stands for together."""

_OF_METRICS = {COST: ratio, POLICY: metric_difference}  # other curves are compared problem by problem


@dataclass(frozen=True)
class Claim:
    """One sentence that ``rule`` tests on two curves; ``paper`` is its evidence, empty if the paper has none."""

    section: str
    sentence: str
    ours: Line
    theirs: Line
    rule: Rule
    paper: str

    def judged(self, results: PaperResults) -> tuple[Estimate | None, ClaimVerdict]:
        """The estimate from our runs, and the verdict of the rule."""
        (ours, key), theirs = self.ours, self.theirs.experiment
        measure = _OF_METRICS.get(key)
        estimate = measure(results, ours, theirs, key) if measure else results.difference(self.ours, self.theirs)
        return estimate, self.rule.verdict(estimate)


def claims(paper: Paper) -> list[Claim]:
    """All claims in the order of the paper's tables and figures, then those on steps."""
    return [
        Claim(key, sentence, _line(ours), _line(theirs), RULES[rule], _evidence(paper, _line(ours), _line(theirs)))
        for key, part in PARTS.items()
        for ours, theirs, rule, sentence in part["claims"]
    ]


def _line(text: str) -> Line:
    """The curve of `experiment:curve`, or best-of-N of `experiment`."""
    return Line(*text.split(":"))


def _evidence(paper: Paper, ours: Line, theirs: Line) -> str:
    """What the paper's numbers say; empty where it lacks one of them."""
    a, b = _in_paper(paper, ours), _in_paper(paper, theirs)
    if b is not None and (variants := VARIANTS.get(ours.experiment)):
        return ", ".join(f"{paper.rows[name].mean() - b:+.1f} ({name.rpartition('-')[2]})" for name in variants)
    if a is None or b is None:
        return ""
    beside = {"bon/min": f" ({a:.1f} against {b:.1f})", POLICY: f" ({b} to {a})"} if ours.curve == theirs.curve else {}
    return f"× {a / b:.1f}" if ours.curve == COST else f"{a - b:+.1f}{beside.get(ours.curve, '')}"


def _in_paper(paper: Paper, line: Line) -> float | None:
    name = PAPER_ROW.get(line.experiment, line.experiment)
    if line.curve in ("bon/min", "bon/random"):
        row = paper.rows.get(name if line.curve == "bon/min" else "random")
        return row.mean() if row else None
    by_curve = {COST: paper.cost_ratios, POLICY: paper.policy, "vote/min": paper.votes}
    return paper.majority if line.curve == "majority" else by_curve.get(line.curve, {}).get(name)
