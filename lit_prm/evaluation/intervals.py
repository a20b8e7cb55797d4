"""Confidence intervals and paired tests over problems."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray


def bootstrap_interval(
    values: ArrayLike, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values`` [P], by resampling the problems.

    For a paired comparison pass the differences of each problem. Two arrays of one length and seed are resampled
    alike. Fewer than two problems have no interval: (nan, nan). Raises ValueError if a value is nan.
    """
    value = np.asarray(values, float)
    if np.isnan(value).any():
        raise ValueError(
            f"{np.isnan(value).sum()} of {len(value)} values are nan; pass only problems that have a value"
        )
    if len(value) < 2:
        return math.nan, math.nan
    means = np.concatenate([value[rows].mean(1) for rows in _resamples(len(value), seed, samples)])
    return interval(means, level)


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values without nan; (nan, nan) if all are nan."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_ratio(
    over: ArrayLike, under: ArrayLike, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(over) / sum(under), [P] each, by resampling problems; without ratios by 0."""
    top, bottom = np.asarray(over, float), np.asarray(under, float)
    if len(top) < 2:
        return math.nan, math.nan
    drawn = [(top[rows].sum(1), bottom[rows].sum(1)) for rows in _resamples(len(top), seed, samples)]
    over_drawn, under_drawn = np.concatenate([np.stack(pair) for pair in drawn], 1)  # [samples] each
    return interval(over_drawn[under_drawn > 0] / under_drawn[under_drawn > 0], level)


def _resamples(problems: int, seed: int, samples: int) -> Iterator[NDArray[np.intp]]:
    """Blocks [m, P] of problem numbers drawn with replacement, ``samples`` rows in all; a block takes 32 MB at most."""
    rng = np.random.default_rng(seed)
    rows = max(1, 2**22 // problems)
    for start in range(0, samples, rows):
        yield rng.integers(problems, size=(min(rows, samples - start), problems))


def mcnemar(first_only: int, second_only: int) -> float:
    """McNemar's exact two-sided p value from how many problems just one of two rules solves; 1 for none."""
    from scipy.stats import binomtest  # slow to import; only paired comparisons need it

    n = first_only + second_only
    return float(binomtest(first_only, n).pvalue) if n else 1.0
