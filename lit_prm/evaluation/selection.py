"""Best-of-N and any-of-N as exact expectations over subsets.

Arrays of one problem: ``scores`` [K] float, ``correct`` [K] 0, 1 or a share, ``cluster`` [K] int, the
answer each candidate gave with -1 for none. Every number is what a random size-n subset of the K
candidates gives on average, so it carries no luck of which n were drawn first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lit_prm.evaluation.votes import Floats, subset_size


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


def candidate_counts(k: int) -> list[int]:
    """1, 2, 4, ... below K, then K itself."""
    return [2**i for i in range((k - 1).bit_length())] + [k]
