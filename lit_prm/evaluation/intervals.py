"""Confidence intervals and paired tests over problems."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

# ---- over problems ------------------------------------------------------------------------------


def bootstrap_interval(
    values: ArrayLike, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values`` [P] over resampled problems.

    Pass per-problem differences for a paired comparison. Two arrays of one length and seed see the same
    resamples. Fewer than two problems say nothing about their spread: (nan, nan).
    """
    value = np.asarray(values, float)
    if np.isnan(value).any():
        raise ValueError(f"{np.isnan(value).sum()} of {len(value)} values are nan; leave those problems out by rule")
    if len(value) < 2:
        return math.nan, math.nan
    means = np.concatenate([value[rows].mean(1) for rows in _resamples(len(value), seed, samples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_ratio(
    over: ArrayLike, under: ArrayLike, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(over) / sum(under), [P] each, over resampled problems; empty ones are passed by."""
    top, bottom = np.asarray(over, float), np.asarray(under, float)
    if len(top) < 2:
        return math.nan, math.nan
    drawn = [(top[rows].sum(1), bottom[rows].sum(1)) for rows in _resamples(len(top), seed, samples)]
    sums = np.concatenate([np.stack(pair) for pair in drawn], 1)  # [2, samples]
    known = sums[:, sums[1] > 0]
    if not known.size:
        return math.nan, math.nan
    low, high = np.quantile(known[0] / known[1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resamples(problems: int, seed: int, samples: int) -> Iterator[NDArray[np.intp]]:
    """[m, P] problems drawn with replacement, ``samples`` rows in all; memory stays below 64 MB."""
    rng = np.random.default_rng(seed)
    rows = max(1, 2**22 // problems)
    for start in range(0, samples, rows):
        yield rng.integers(problems, size=(min(rows, samples - start), problems))


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p of McNemar's test: a fair coin splits the problems that just one of two rules solves."""
    n, fewer = first_only + second_only, min(first_only, second_only)
    as_uneven = 2 * sum(math.comb(n, i) for i in range(fewer + 1))
    return min(1.0, float(as_uneven / 2**n))
