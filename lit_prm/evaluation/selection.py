"""Aggregates, best-of-N, votes, any-of-N: exact expectations over subsets, and intervals over problems.

Arrays of one problem: ``scores`` [K] float, ``correct`` [K] 0, 1 or a share, ``cluster`` [K] int, the
answer each candidate gave with -1 for none. Every number is what a random size-n subset of the K
candidates gives on average, so it carries no luck of which n were drawn first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lit_prm.evaluation.votes import (
    Floats,
    Rank,
    Sigmoid,
    Softmax,
    Unchanged,
    Uniform,
    Votes,
    VoteWeight,
    majority,
    sampled_votes,
    subset_size,
    weighted_vote,
    weighted_votes,
)

__all__ = [
    "AGGREGATES",
    "best_of_n",
    "any_of_n",
    "majority",
    "weighted_vote",
    "weighted_votes",
    "sampled_votes",
    "Votes",
    "VoteWeight",
    "Uniform",
    "Unchanged",
    "Sigmoid",
    "Softmax",
    "Rank",
    "bootstrap_interval",
    "bootstrap_ratio",
    "mcnemar",
    "candidate_counts",
]

Aggregate = Callable[[Any, Any], Floats]


# ---- step rewards -> one score -----------------------------------------------------------------


def _where_any(values: ArrayLike, valid: NDArray[np.bool_]) -> Floats:
    return np.where(valid.any(-1), values, -np.inf)


def least(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The worst step reward."""
    return _where_any(steps.min(-1, where=valid, initial=np.inf), valid)


def total(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The sum of step rewards, which telescopes to the reward of the response."""
    return _where_any(steps.sum(-1, where=valid), valid)


def mean(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The mean step reward."""
    return _where_any(steps.sum(-1, where=valid) / np.maximum(valid.sum(-1), 1), valid)


def last(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The reward of the last valid step."""
    none = np.full((*steps.shape[:-1], 1), -np.inf)  # column 0: what a response without steps gets
    column = np.where(valid, np.arange(1, steps.shape[-1] + 1), 0).max(-1, initial=0, keepdims=True)
    return cast(Floats, np.take_along_axis(np.concatenate([none, steps], -1), column, -1)[..., 0])


def product(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The product of sigmoid(step reward): the chance that every step is right.

    A reward has any sign, so a plain product would reward two wrong steps; the sigmoid reads each as
    the log-odds of its step and makes the product fall with every doubt. Summed as log-sigmoids and
    exponentiated once; it reaches 0, and ties there, when the logs sum to less than -745.
    """
    return _where_any(np.exp(-np.logaddexp(0.0, -np.where(valid, steps, np.inf)).sum(-1)), valid)


AGGREGATES: dict[str, Aggregate] = {"min": least, "sum": total, "mean": mean, "last": last, "product": product}
"""``steps`` [..., S], ``valid`` [..., S] -> scores [...]. Values where not valid are never read; a
response without a valid step scores -inf: it is chosen only when no candidate has a step."""


def aggregated(step_rewards: Sequence[float | None]) -> dict[str, float | None]:
    """One score per aggregate from one response's step rewards, None being no reward; None without any."""
    steps = np.array([[0.0 if x is None else x for x in step_rewards]])  # [1, S]
    valid = np.array([[x is not None for x in step_rewards]], dtype=bool)
    scores = {name: float(aggregate(steps, valid)[0]) for name, aggregate in AGGREGATES.items()}
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}


def refuse_unknown_aggregates(names: Collection[str]) -> None:
    """Raise unless there is a name and every one is known."""
    if not names or not set(names) <= AGGREGATES.keys():
        raise ValueError(f"aggregates {list(names)}: known are {', '.join(AGGREGATES)}; name at least one")


# ---- best-of-N, any-of-N ------------------------------------------------------------------------


def _inside(k: int, n: int) -> Floats:
    """[K+1]: the chance that a random n-subset of K lies within m given candidates, for m = 0 ... K.

    C(m, n) / C(K, n) as a running product of ratios below 1: no factorial, so no overflow at any K.
    """
    m = np.arange(k, n - 1, -1)
    falling = np.concatenate([[1.0], np.cumprod((m - n) / m)])  # m = K, K-1, ..., n-1
    return np.concatenate([np.zeros(n - 1), falling[::-1]])


def best_of_n(scores: ArrayLike, correct: ArrayLike, n: int) -> float:
    """Expected correctness of the best-scored of n random candidates; exact, ties shared uniformly.

    ``correct`` may be any other number that a candidate has, as its length or the score itself.

    Every block of equal scores wins with the chance that the subset lies within "this score or less"
    but not within "less", and all of a block are then equally likely. n = 1 is the mean accuracy.
    """
    score, right = np.asarray(scores, float), np.asarray(correct, float)
    n = subset_size(len(score), n, scores=score, correct=right)
    _, block = np.unique(score, return_inverse=True)  # [K], ascending
    size = np.bincount(block)
    within = _inside(len(score), n)[np.concatenate([[0], np.cumsum(size)])]
    return float(np.diff(within) @ (np.bincount(block, right) / size))


def any_of_n(correct: ArrayLike, n: int) -> float:
    """The chance that n random candidates hold at least one right one (pass@n without bias)."""
    right = np.asarray(correct, float)
    n = subset_size(len(right), n, correct=right)
    if not np.isin(right, (0, 1)).all():
        raise ValueError(f"correct has {right[~np.isin(right, (0, 1))][0]}; any-of-n counts right ones: use 0 or 1")
    return float(1 - _inside(len(right), n)[int((right == 0).sum())])


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


def candidate_counts(k: int) -> list[int]:
    """1, 2, 4, ... below K, then K itself."""
    return [2**i for i in range((k - 1).bit_length())] + [k]
