"""The first wrong step by a threshold, and its F1: ProcessBench's, with a threshold that never sees its test."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lit_prm.data.records import Group

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]


class Known(NamedTuple):
    """The R responses of some groups whose first wrong step is known."""

    at: Ints  # [R] place among all responses, counted over the groups
    first_error: Ints  # [R] -1: every step is right
    problem: Ints  # [R] first group that asks the same: benchmarks ask a problem more than once

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Known:
        asked: dict[str, int] = {}
        numbers = [asked.setdefault(group.problem.text, p) for p, group in enumerate(groups)]
        rollouts = [(p, r.first_error) for p, group in zip(numbers, groups, strict=True) for r in group.rollouts]
        known = [(i, error, p) for i, (p, error) in enumerate(rollouts) if error is not None]
        return cls(*np.array(known, dtype=np.intp).reshape(-1, 3).T)


# ---- the decision and its score ------------------------------------------------------------------


def first_below(steps: Floats, valid: Mask, threshold: float) -> Ints:
    """Index of each response's first step with a reward below ``threshold``, -1 for none; [R, S], [R, S] -> [R]."""
    below = valid & (steps < threshold)
    return np.where(below.any(1), below.argmax(1), -1)


class Hits(NamedTuple):
    """How many wrong responses had their first error named exactly, and how many right ones none.

    A rule that guesses hits a share of a response, in expectation.
    """

    on_wrong: float
    wrong: int
    on_right: float
    right: int

    @classmethod
    def of(cls, hit: Floats | Mask, first_error: Ints) -> Hits:
        wrong = first_error >= 0
        return cls(float(hit[wrong].sum()), int(wrong.sum()), float(hit[~wrong].sum()), int((~wrong).sum()))

    @property
    def error_acc(self) -> float:
        """Share of the wrong responses; nan without any."""
        return self.on_wrong / self.wrong if self.wrong else float("nan")

    @property
    def correct_acc(self) -> float:
        """Share of the right responses; nan without any."""
        return self.on_right / self.right if self.right else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; nan when one of them is missing (Zheng et al. 2024, ProcessBench)."""
        return float(_harmonic(np.float64(self.error_acc), np.float64(self.correct_acc)))


def f1(predicted: Ints, first_error: Ints) -> float:
    """F1 of ``Hits``: exact first errors among wrong responses, -1 among right ones; [R], [R], -1: no error."""
    return Hits.of(predicted == first_error, first_error).f1


def resampled_f1(hit: Floats | Mask, first_error: Ints, problem: Ints, seed: int = 0, samples: int = 2000) -> Floats:
    """F1 with the problems drawn anew, responses and decisions as they are; [samples], nan where a kind is missing."""
    _, of = np.unique(problem, return_inverse=True)
    wrong = first_error >= 0
    counts = [np.bincount(of, weights) for weights in (hit * wrong, wrong, hit * ~wrong, ~wrong)]
    on_wrong, wrongs, on_right, rights = np.stack(counts) @ _drawn(len(counts[0]), seed, samples)
    with np.errstate(invalid="ignore"):
        return _harmonic(on_wrong / wrongs, on_right / rights)


@lru_cache(maxsize=8)
def _drawn(problems: int, seed: int, samples: int) -> Floats:
    """How often each problem is drawn, [P, samples]: the same for every rule that is asked about the same problems."""
    drawn = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), samples)
    return np.asarray(drawn.T, dtype=float)


def interval(samples: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values; those that are undefined are left out, all of them give nan."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _harmonic(a: Floats | np.float64, b: Floats | np.float64) -> Floats:
    """0 where both are 0."""
    both = np.asarray(a + b)
    return np.divide(2 * a * b, both, out=np.where(np.isnan(both), np.nan, 0.0), where=both > 0)


# ---- the threshold -------------------------------------------------------------------------------


def every_cut(steps: Floats, valid: Mask) -> Floats:
    """One threshold for each way to cut the U distinct step rewards in two: below all, halfway, above all; [U + 1]."""
    found = np.unique(steps[valid])
    if not len(found):
        return np.zeros(1)
    halfway = found[:-1] / 2 + found[1:] / 2
    halfway = np.where(halfway > found[:-1], halfway, found[1:])  # neighbouring floats have none between them
    return np.concatenate([found[:1], halfway, [max(found[-1] + 1, np.nextafter(found[-1], np.inf))]])


def best_threshold(steps: Floats, valid: Mask, first_error: Ints) -> float:
    """The threshold of ``every_cut`` with the highest F1 here; the lowest of equals. nan when F1 is undefined."""
    thresholds = every_cut(steps, valid)
    found = f1_at(thresholds, steps, valid, first_error)
    return float("nan") if np.isnan(found).all() else float(thresholds[int(np.nanargmax(found))])


def f1_at(thresholds: Floats, steps: Floats, valid: Mask, first_error: Ints) -> Floats:
    """F1 by ``first_below`` at every threshold; [H], found without deciding for each.

    A first error e is named by the thresholds above its reward, up to the lowest reward before it; none is
    named up to the lowest reward of all.
    """
    lowest_before = _lowest_before(steps, valid)  # [R, S + 1]
    wrong = first_error >= 0
    at = np.flatnonzero(wrong & (first_error < steps.shape[1]))
    error = first_error[at]
    above = np.where(valid[at, error], steps[at, error], np.inf)
    upto = lowest_before[at, error]
    named = _below(above[above < upto], thresholds) - _below(upto[above < upto], thresholds)
    kept = int((~wrong).sum()) - _below(lowest_before[~wrong, -1], thresholds)
    with np.errstate(invalid="ignore"):
        return _harmonic(named / np.float64(wrong.sum()), kept / np.float64((~wrong).sum()))


def _lowest_before(steps: Floats, valid: Mask) -> Floats:
    """The lowest valid reward before each step and, in the last column, of all; inf where there is none."""
    rewards = np.where(valid, steps, np.inf)
    return np.minimum.accumulate(np.concatenate([np.full((len(steps), 1), np.inf), rewards], 1), 1)


def _below(values: Floats, thresholds: Floats) -> Floats:
    """How many values lie below each threshold."""
    return np.searchsorted(np.sort(values), thresholds, "left").astype(float)


def cross_fitted(steps: Floats, valid: Mask, first_error: Ints, problem: Ints) -> Ints | None:
    """First errors where each half of the problems, even and odd, is judged by the best threshold of the other half.

    None when a half has no best threshold.
    """
    predicted = np.full(len(first_error), -1)
    for half in (0, 1):
        mine = problem % 2 == half
        threshold = best_threshold(steps[~mine], valid[~mine], first_error[~mine])
        if np.isnan(threshold):
            return None
        predicted[mine] = first_below(steps[mine], valid[mine], threshold)
    return predicted


def cross_fitted_f1(steps: Floats, valid: Mask, first_error: Ints, problem: Ints) -> float:
    """F1 of ``cross_fitted``; nan where that is none."""
    predicted = cross_fitted(steps, valid, first_error, problem)
    return float("nan") if predicted is None else f1(predicted, first_error)


# ---- without a threshold -------------------------------------------------------------------------


def lowest_share(steps: Floats, valid: Mask) -> Floats:
    """Where the lowest reward of each response falls, equal ones sharing it; [R, S], rows of 1, or 0 without steps."""
    lowest = valid & (steps == _lowest_before(steps, valid)[:, -1:])
    return cast(Floats, lowest / np.maximum(lowest.sum(1, keepdims=True), 1))


def judged_steps(valid: Mask, first_error: Ints) -> tuple[Mask, Mask]:
    """Steps known to be right and first wrong steps; what follows an error is judged by nobody. [R, S] each."""
    place = np.arange(valid.shape[1])
    end = np.where(first_error >= 0, first_error, valid.shape[1])[:, None]
    return valid & (place < end), valid & (place == end)
