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
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_ratio(
    over: ArrayLike, under: ArrayLike, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(over) / sum(under), [P] each, by resampling the problems.

    A resample whose sum of ``under`` is 0 has no ratio and is left out.
    """
    top, bottom = np.asarray(over, float), np.asarray(under, float)
    if len(top) < 2:
        return math.nan, math.nan
    drawn = [(top[rows].sum(1), bottom[rows].sum(1)) for rows in _resamples(len(top), seed, samples)]
    sums = np.concatenate([np.stack(pair) for pair in drawn], 1)  # [2, samples]
    defined = sums[:, sums[1] > 0]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined[0] / defined[1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resamples(problems: int, seed: int, samples: int) -> Iterator[NDArray[np.intp]]:
    """Blocks [m, P] of problem numbers drawn with replacement, ``samples`` rows in all; a block takes 32 MB at most."""
    rng = np.random.default_rng(seed)
    rows = max(1, 2**22 // problems)
    for start in range(0, samples, rows):
        yield rng.integers(problems, size=(min(rows, samples - start), problems))


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p value of McNemar's test; 1 if the two rules solve the same problems.

    ``first_only`` and ``second_only`` count the problems that just one of the rules solves.
    """
    from scipy.stats import binomtest  # slow to import; only paired comparisons need it

    n = first_only + second_only
    return float(binomtest(first_only, n).pvalue) if n else 1.0
