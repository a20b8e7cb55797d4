"""Best-of-N and any-of-N as exact expectations over subsets.

Arrays of one problem: ``scores`` [K] float; ``correct`` [K] 0, 1 or a share; ``cluster`` [K] int, the number of each
candidate's answer, -1 without one. Every result is the mean over all size-n subsets of the K candidates, so it does not
depend on their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from lit_prm.evaluation.votes import Floats, subset_size


@lru_cache(maxsize=4096)
def _inside(k: int, n: int) -> Floats:
    """[K+1] probability that a random n-subset of K candidates lies within m given ones, for m = 0 ... K.

    C(m, n) / C(K, n) as a running product of ratios below 1: without factorials, so no overflow at any K.
    """
    m = np.arange(k, n - 1, -1)
    falling = np.concatenate([[1.0], np.cumprod((m - n) / m)])  # m = K, K-1, ..., n-1
    return np.concatenate([np.zeros(n - 1), falling[::-1]])


def best_of_n(scores: ArrayLike, correct: ArrayLike, n: int) -> float:
    """Expected correctness of the candidate with the best score among n random ones; exact, tied candidates share.

    ``correct`` may be any number of a candidate, for example its length or its score. n = 1 gives the mean accuracy.

    A block of equal scores wins with the probability that the subset lies within "this score or less" but not within
    "less"; each candidate of the block is then equally likely.
    """
    return best_of_each(scores, correct, [n])[0]


def best_of_each(scores: ArrayLike, correct: ArrayLike, counts: Sequence[int]) -> list[float]:
    """``best_of_n`` for each n of ``counts``."""
    score, right = np.asarray(scores, float), np.asarray(correct, float)
    subset_size(len(score), min(counts), scores=score, correct=right)
    _, block = np.unique(score, return_inverse=True)  # [K], ascending
    size = np.bincount(block)
    ends, mean = np.concatenate([[0], np.cumsum(size)]), np.bincount(block, right) / size
    return [float(np.diff(_inside(len(score), int(n))[ends]) @ mean) for n in np.minimum(counts, len(score))]


def any_of_n(correct: ArrayLike, n: int) -> float:
    """Probability that at least one of n random candidates is right (unbiased pass@n)."""
    right = np.asarray(correct, float)
    n = subset_size(len(right), n, correct=right)
    if not np.isin(right, (0, 1)).all():
        raise ValueError(
            f"correct holds {right[~np.isin(right, (0, 1))][0]}, but any-of-n counts right candidates. Use 0 and 1."
        )
    return float(1 - _inside(len(right), n)[int((right == 0).sum())])


def candidate_counts(k: int) -> list[int]:
    """1, 2, 4, ... below K, then K itself."""
    return [2**i for i in range((k - 1).bit_length())] + [k]
