"""What a score does beyond its accuracy: over-optimisation, taste for length, right answers by wrong steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lit_prm.data.records import Group
from lit_prm.evaluation.candidates import split
from lit_prm.evaluation.discrimination import Floats
from lit_prm.evaluation.intervals import bootstrap_interval, bootstrap_ratio
from lit_prm.evaluation.selection import best_of_n


class Estimate(NamedTuple):
    """A mean over problems and its 95 % bootstrap interval; nan ends where there is one problem."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, per_problem: ArrayLike) -> Estimate:
        return cls(float(np.asarray(per_problem, float).mean()), *bootstrap_interval(per_problem))


class Overoptimisation(NamedTuple):
    """The chosen answer's accuracy beside the score it was chosen by, at every number of candidates; [C] each.

    ``possible`` is the accuracy of whoever knows the right one. ``fall`` is the accuracy at ``peak`` minus that at
    the end, on the same problems; the peak was picked on them too, so a small fall says nothing. ``score`` leaves
    out problems with a response without a score (``left_out``).
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
    whole = [part for part in parts if np.isfinite(part).all()]
    chosen = [float(np.mean([best_of_n(p, p, n) for p in whole])) if whole else float("nan") for n in counts]
    accuracy = curve.mean(0)
    peak = int(accuracy.argmax())
    return Overoptimisation(
        tuple(accuracy.tolist()), tuple(any_.mean(0).tolist()), tuple(chosen), len(parts) - len(whole),
        counts[peak], Estimate.of(curve[:, peak] - curve[:, -1]),
    )  # fmt: skip


class LengthBias(NamedTuple):
    """How a score goes with length. Correlations are within problems: of deviations from their problem's means.

    ``right`` is that of being right with length, which a fair score would share. ``mean`` is the mean length of
    all, ``excess`` [C] by how much the chosen are longer than the mean of their problem.
    """

    unit: str
    score: float
    right: float
    mean: float
    excess: tuple[Estimate, ...]


def length_bias(groups: Sequence[Group], score: Floats, length: Floats, unit: str, counts: Sequence[int]) -> (
    LengthBias
):  # fmt: skip
    """Of ``score`` [R] with ``length`` [R]; problems weigh alike in means, responses in correlations."""
    right = np.array([float(bool(r.correct)) for g in groups for r in g.rollouts])
    scores, sizes = split(groups, score), split(groups, length)
    mean = np.array([part.mean() for part in sizes])
    excess = [Estimate.of([best_of_n(s, x, n) for s, x in zip(scores, sizes, strict=True)] - mean) for n in counts]
    return LengthBias(
        unit, within(groups, score, length), within(groups, right, length), float(mean.mean()), tuple(excess)
    )


def within(groups: Sequence[Group], first: Floats, second: Floats) -> float:
    """Correlation of two numbers of every response [R] after taking each problem's means off; nan if one is constant.

    Responses without a finite number are left out.
    """
    known = np.isfinite(first) & np.isfinite(second)
    problem = np.repeat(np.arange(len(groups)), [len(g.rollouts) for g in groups])[known]
    size = np.maximum(np.bincount(problem, minlength=len(groups)), 1)
    a, b = (x[known] - (np.bincount(problem, x[known], len(groups)) / size)[problem] for x in (first, second))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


class WrongProcess(NamedTuple):
    """Of chosen responses with a right answer and checked steps, the share that has a wrong step; [C] each."""

    checked: int  # right responses whose steps were checked
    chosen: tuple[Estimate, ...]
    random: tuple[Estimate, ...]  # of one drawn at random, the same at every N


def wrong_process(groups: Sequence[Group], score: Floats, counts: Sequence[int]) -> WrongProcess | None:
    """By ``score`` [R] and by chance; None where no right response had its steps checked."""
    rollouts = [r for g in groups for r in g.rollouts]
    known = np.array([bool(r.correct) and r.first_error is not None for r in rollouts], dtype=float)
    wrong = known * np.array([(r.first_error or 0) >= 0 for r in rollouts])
    if not known.any():
        return None
    chosen, random = (tuple(_rate(groups, s, wrong, known, n) for n in counts) for s in (score, np.zeros(len(score))))
    return WrongProcess(int(known.sum()), chosen, random)


def _rate(groups: Sequence[Group], score: Floats, wrong: Floats, known: Floats, n: int) -> Estimate:
    parts = [split(groups, x) for x in (score, wrong, known)]
    over, under = (np.array([best_of_n(s, x, n) for s, x in zip(parts[0], of, strict=True)]) for of in parts[1:])
    total = under.sum()
    return Estimate(float(over.sum() / total) if total else float("nan"), *bootstrap_ratio(over, under))
