"""Effects of choosing by a score: over-optimisation, length bias, wrong steps; and paired differences of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from lit_prm.data.records import Group
from lit_prm.evaluation.candidates import split
from lit_prm.evaluation.discrimination import Floats
from lit_prm.evaluation.estimate import Estimate
from lit_prm.evaluation.intervals import bootstrap_ratio, mcnemar
from lit_prm.evaluation.selection import best_of_n


class Overoptimisation(NamedTuple):
    """Accuracy and mean score of the chosen answer at each of the C numbers of candidates; [C] each.

    ``possible`` is the accuracy of an oracle (any-of-N). ``fall`` is the accuracy at ``peak`` minus that at the largest
    N, on the same problems; the peak was picked on them too, so a small fall says nothing. ``score`` leaves out the
    ``left_out`` problems in which a response has no finite score.
    """

    accuracy: tuple[float, ...]
    possible: tuple[float, ...]
    score: tuple[float, ...]
    left_out: int
    peak: int
    fall: Estimate


def overoptimisation(groups: Sequence[Group], score: Floats, counts: Sequence[int], curve: Floats, any_: Floats) -> (
    Overoptimisation
):  # fmt: skip
    """``curve`` and ``any_`` [P, C] are the accuracies of best-of-N by ``score`` [R] and of any-of-N."""
    parts = split(groups, score)
    finite = [part for part in parts if np.isfinite(part).all()]
    chosen = [float(np.mean([best_of_n(p, p, n) for p in finite])) if finite else float("nan") for n in counts]
    accuracy = curve.mean(0)
    peak = int(accuracy.argmax())
    return Overoptimisation(
        tuple(accuracy.tolist()), tuple(any_.mean(0).tolist()), tuple(chosen), len(parts) - len(finite),
        counts[peak], Estimate.of(curve[:, peak] - curve[:, -1]),
    )  # fmt: skip


class LengthBias(NamedTuple):
    """Correlation of the ``score`` with length and of being ``right`` with length, both within problems.

    Within problems: of deviations from the problem's means. A fair score has the correlation that being right has.
    ``mean`` is the mean length of all responses; ``excess`` [C] says by how much the chosen response is longer than the
    mean of its problem.
    """

    unit: str
    score: float
    right: float
    mean: float
    excess: tuple[Estimate, ...]


def length_bias(groups: Sequence[Group], score: Floats, length: Floats, unit: str, counts: Sequence[int]) -> (
    LengthBias
):  # fmt: skip
    """Length bias of ``score`` [R] for ``length`` [R]; problems weigh alike in means, responses in correlations."""
    right = np.array([float(bool(r.correct)) for g in groups for r in g.rollouts])
    scores, sizes = split(groups, score), split(groups, length)
    mean = np.array([part.mean() for part in sizes])
    excess = [Estimate.of([best_of_n(s, x, n) for s, x in zip(scores, sizes, strict=True)] - mean) for n in counts]
    return LengthBias(
        unit, within(groups, score, length), within(groups, right, length), float(mean.mean()), tuple(excess)
    )


def within(groups: Sequence[Group], first: Floats, second: Floats) -> float:
    """Correlation over responses [R], without each problem's means, of two finite numbers; nan if one is constant."""
    finite = np.isfinite(first) & np.isfinite(second)
    problem = np.repeat(np.arange(len(groups)), [len(g.rollouts) for g in groups])[finite]
    size = np.maximum(np.bincount(problem, minlength=len(groups)), 1)
    a, b = (x[finite] - (np.bincount(problem, x[finite], len(groups)) / size)[problem] for x in (first, second))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


class WrongProcess(NamedTuple):
    """How often a right answer is reached by wrong steps, for each of C candidate counts.

    The share of responses with a wrong step, among chosen responses with a right answer and checked steps.
    """

    checked: int  # right responses whose steps were checked
    chosen: tuple[Estimate, ...]
    random: tuple[Estimate, ...]  # of a response drawn at random, the same at every N


def wrong_process(groups: Sequence[Group], score: Floats, counts: Sequence[int]) -> WrongProcess | None:
    """The share when ``score`` [R] or chance chooses; None when no right response had its steps checked."""
    rollouts = [r for g in groups for r in g.rollouts]
    checked = np.array([bool(r.correct) and r.first_error is not None for r in rollouts], dtype=float)
    wrong = checked * np.array([(r.first_error or 0) >= 0 for r in rollouts])
    if not checked.any():
        return None
    chosen, random = (tuple(_rate(groups, s, wrong, checked, n) for n in counts) for s in (score, np.zeros(len(score))))
    return WrongProcess(int(checked.sum()), chosen, random)


def _rate(groups: Sequence[Group], score: Floats, wrong: Floats, checked: Floats, n: int) -> Estimate:
    parts = [split(groups, x) for x in (score, wrong, checked)]
    over, under = (np.array([best_of_n(s, x, n) for s, x in zip(parts[0], of, strict=True)]) for of in parts[1:])
    total = under.sum()
    return Estimate(float(over.sum() / total) if total else float("nan"), *bootstrap_ratio(over, under))


class PairedDifference(NamedTuple):
    """``first`` minus ``second``, with bootstrap intervals over problems; [C].

    Below N = K an outcome is an expectation over subsets, neither 0 nor 1, so only the bootstrap applies. At N = K
    McNemar's test counts the problems that one rule alone solves; ``undecided`` counts those where a rule shared a tie.
    """

    first: str
    second: str
    differences: tuple[Estimate, ...]
    first_only: int
    second_only: int
    undecided: int
    p: float


def compared(first: str, second: str, ours: Floats, theirs: Floats) -> PairedDifference:
    """The paired difference of two curves [P, C] over the same problems; their last column is N = K."""
    differences = tuple(Estimate.of(column) for column in (ours - theirs).T)
    a, b = ours[:, -1].round(9), theirs[:, -1].round(9)  # a vote's 1 may be 1 - 1e-16
    decided = np.isin(a, (0, 1)) & np.isin(b, (0, 1))
    wins, losses = int((decided & (a > b)).sum()), int((decided & (a < b)).sum())
    return PairedDifference(first, second, differences, wins, losses, int((~decided).sum()), mcnemar(wins, losses))


def all_pairs(curves: Mapping[str, Floats]) -> list[PairedDifference]:
    """Every two of the curves `scorer: rule` that differ in the scorer alone or in the rule alone."""
    named = [(name, name.rpartition(": ")) for name in curves]
    return [
        compared(a, b, curves[a], curves[b])
        for (a, (scorer, _, rule)), (b, (other, _, its)) in combinations(named, 2)
        if scorer == other or rule == its or not scorer or not other
    ]
