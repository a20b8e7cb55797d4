"""The first wrong step by a threshold, and its F1: ProcessBench's, with a threshold that never sees its test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

THRESHOLDS = 200  # tried, at quantiles of the step rewards


def first_below(steps: Floats, valid: Mask, threshold: float) -> Ints:
    """Index of each response's first step with a reward below ``threshold``, -1 for none; [R, S], [R, S] -> [R]."""
    below = valid & (steps < threshold)
    return np.where(below.any(1), below.argmax(1), -1)


def f1(predicted: Ints, first_error: Ints) -> float:
    """Harmonic mean of the exact hits among wrong responses and of -1 among right ones; [R], [R], -1: no error.

    nan when one of the two kinds is missing (Zheng et al. 2024, ProcessBench).
    """
    hit, wrong = predicted == first_error, first_error >= 0
    if wrong.all() or not wrong.any():
        return float("nan")
    on_wrong, on_right = hit[wrong].mean(), hit[~wrong].mean()
    return float(2 * on_wrong * on_right / (on_wrong + on_right)) if on_wrong + on_right else 0.0


def best_threshold(steps: Floats, valid: Mask, first_error: Ints) -> float:
    """The threshold with the highest F1 on these responses; the lowest of equals. nan when F1 is undefined."""
    tried = np.quantile(steps[valid], np.linspace(0, 1, THRESHOLDS)) if valid.any() else np.zeros(1)
    found = [f1(first_below(steps, valid, t), first_error) for t in tried]
    return float("nan") if np.isnan(found).all() else float(tried[int(np.nanargmax(found))])


def cross_fitted_f1(steps: Floats, valid: Mask, first_error: Ints, problem: Ints) -> float:
    """F1 where each half of the problems, even and odd, is judged by the threshold that is best on the other half."""
    predicted = np.full(len(first_error), -1)
    for half in (0, 1):
        mine = problem % 2 == half
        threshold = best_threshold(steps[~mine], valid[~mine], first_error[~mine])
        if np.isnan(threshold):
            return float("nan")
        predicted[mine] = first_below(steps[mine], valid[mine], threshold)
    return f1(predicted, first_error)
