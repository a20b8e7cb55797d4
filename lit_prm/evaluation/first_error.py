"""Finds the first wrong step with a threshold, and measures ProcessBench's F1 with a cross-fitted threshold."""

from __future__ import annotations

import hashlib
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

    at: Ints  # [R] index among all responses, counted over the groups
    first_error: Ints  # [R] -1 if every step is right
    problem: Ints  # [R] a number that follows from the problem's text alone: benchmarks repeat problems

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Known:
        numbers = [_hashed(group.problem.text) for group in groups]
        rollouts = [(p, r.first_error) for p, group in zip(numbers, groups, strict=True) for r in group.rollouts]
        labelled = [(i, error, p) for i, (p, error) in enumerate(rollouts) if error is not None]
        return cls(*np.array(labelled, dtype=np.intp).reshape(-1, 3).T)


def _hashed(text: str) -> int:
    """The first 63 bits of the text's SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def halves(problem: Ints) -> Mask:
    """True for the responses of half of the problems: those whose numbers have the lowest hashes; [R] -> [R].

    So a pattern in the numbers, for example wrong responses to odd problems only, does not decide who is in which half.
    """
    numbers, of = np.unique(problem, return_inverse=True)
    rank = np.argsort(np.argsort([_hashed(str(number)) for number in numbers.tolist()]))
    return np.asarray((2 * rank < len(numbers))[of])


def first_below(steps: Floats, valid: Mask, threshold: float) -> Ints:
    """Index of each response's first step with a reward below ``threshold``, -1 for none; [R, S], [R, S] -> [R]."""
    below = valid & (steps < threshold)
    return np.where(below.any(1), below.argmax(1), -1)


class Hits(NamedTuple):
    """How many first errors of wrong responses a rule names, and in how many right ones none (the expectation)."""

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
        """Share of hits among wrong responses; nan without any."""
        return self.on_wrong / self.wrong if self.wrong else float("nan")

    @property
    def correct_acc(self) -> float:
        """Share of hits among right responses; nan without any."""
        return self.on_right / self.right if self.right else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of ``error_acc`` and ``correct_acc``; nan if one is nan (Zheng et al. 2024, ProcessBench)."""
        return float(_harmonic(np.float64(self.error_acc), np.float64(self.correct_acc)))


def f1(predicted: Ints, first_error: Ints) -> float:
    """F1 of predicted first errors; [R], [R], where -1 means no error."""
    return Hits.of(predicted == first_error, first_error).f1


def resampled_f1(hit: Floats | Mask, first_error: Ints, problem: Ints, seed: int = 0, samples: int = 2000) -> Floats:
    """[samples] F1 over resampled problems; nan in a resample without right or without wrong responses."""
    _, of = np.unique(problem, return_inverse=True)
    wrong = first_error >= 0
    counts = [np.bincount(of, weights) for weights in (hit * wrong, wrong, hit * ~wrong, ~wrong)]
    on_wrong, wrongs, on_right, rights = np.stack(counts) @ _drawn(len(counts[0]), seed, samples)
    with np.errstate(invalid="ignore"):
        return _harmonic(on_wrong / wrongs, on_right / rights)


@lru_cache(maxsize=8)
def _drawn(problems: int, seed: int, samples: int) -> Floats:
    """[P, samples] how often each problem is drawn; equal for all rules, so that rules are compared on paired draws."""
    drawn = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), samples)
    return np.asarray(drawn.T, dtype=float)


def _harmonic(a: Floats | np.float64, b: Floats | np.float64) -> Floats:
    """Harmonic mean; 0 if both are 0."""
    both = np.asarray(a + b)
    return np.divide(2 * a * b, both, out=np.where(np.isnan(both), np.nan, 0.0), where=both > 0)


def every_cut(steps: Floats, valid: Mask) -> Floats:
    """[U + 1] thresholds between the U distinct step rewards: the lowest reward, midpoints, and one above all."""
    rewards = np.unique(steps[valid])
    if not len(rewards):
        return np.zeros(1)
    halfway = rewards[:-1] / 2 + rewards[1:] / 2
    halfway = np.where(halfway > rewards[:-1], halfway, rewards[1:])  # adjacent floats have no midpoint
    return np.concatenate([rewards[:1], halfway, [max(rewards[-1] + 1, np.nextafter(rewards[-1], np.inf))]])


def best_threshold(steps: Floats, valid: Mask, first_error: Ints) -> float:
    """The lowest threshold of ``every_cut`` with the highest F1 on these responses; nan if F1 is undefined."""
    thresholds = every_cut(steps, valid)
    scores = f1_at(thresholds, steps, valid, first_error)
    return float("nan") if np.isnan(scores).all() else float(thresholds[int(np.nanargmax(scores))])


def f1_at(thresholds: Floats, steps: Floats, valid: Mask, first_error: Ints) -> Floats:
    """[H] F1 of ``first_below`` at every threshold, without a pass over the responses for each.

    The thresholds that name a first error are those above its reward and up to the lowest reward before it. The
    thresholds that name no step are those up to the lowest reward of the response.
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
    """[R, S + 1] lowest valid reward before each step and, in the last column, of all steps; inf without any."""
    rewards = np.where(valid, steps, np.inf)
    return np.minimum.accumulate(np.concatenate([np.full((len(steps), 1), np.inf), rewards], 1), 1)


def _below(values: Floats, thresholds: Floats) -> Floats:
    """Number of values below each threshold."""
    return np.searchsorted(np.sort(values), thresholds, "left").astype(float)


def cross_fitted(steps: Floats, valid: Mask, first_error: Ints, problem: Ints) -> Ints | None:
    """First errors by the best threshold of the other one of the ``halves``; None if one half has no best threshold."""
    predicted, first_half = np.full(len(first_error), -1), halves(problem)
    for tested in (first_half, ~first_half):
        threshold = best_threshold(steps[~tested], valid[~tested], first_error[~tested])
        if np.isnan(threshold):
            return None
        predicted[tested] = first_below(steps[tested], valid[tested], threshold)
    return predicted


def cross_fitted_f1(steps: Floats, valid: Mask, first_error: Ints, problem: Ints) -> float:
    """F1 of ``cross_fitted``; nan if that is None."""
    predicted = cross_fitted(steps, valid, first_error, problem)
    return float("nan") if predicted is None else f1(predicted, first_error)


def lowest_share(steps: Floats, valid: Mask) -> Floats:
    """[R, S] 1 at the step with the lowest reward, shared among equal rewards; a row of 0 without steps."""
    lowest = valid & (steps == _lowest_before(steps, valid)[:, -1:])
    return cast(Floats, lowest / np.maximum(lowest.sum(1, keepdims=True), 1))


def judged_steps(valid: Mask, first_error: Ints) -> tuple[Mask, Mask]:
    """[R, S] masks of the right steps and of the first wrong steps; steps after an error have no label."""
    place = np.arange(valid.shape[1])
    end = np.where(first_error >= 0, first_error, valid.shape[1])[:, None]
    return valid & (place < end), valid & (place == end)
