"""Votes over the answers of one problem's candidates: exact majority votes and weighted votes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

EXACT_SUBSETS = 2048  # a weighted vote enumerates up to this many subsets ...
SAMPLED_SUBSETS = 512  # ... and draws this many when there are more


def subset_size(k: int, n: int, **arrays: Any) -> int:
    """``n`` capped at K. Raises ValueError for arrays of another shape, with nan, or for n below 1."""
    for name, array in arrays.items():
        if array.shape != (k,) or k == 0:
            raise ValueError(f"{name} has shape {array.shape}, but one problem's K >= 1 candidates need [K] = ({k},).")
        if np.isnan(array).any():
            raise ValueError(f"{name} is nan at {np.flatnonzero(np.isnan(array))[:5]}. Leave those candidates out.")
    if n < 1:
        raise ValueError(f"n is {n}, but a subset has at least one candidate. Use n >= 1.")
    return min(n, k)


def majority(cluster: ArrayLike, correct: ArrayLike, n: int) -> float:
    """Expected correctness of the most frequent answer among n random candidates; exact.

    Tied answers share uniformly. The correctness of an answer is the mean over its candidates. A candidate without an
    answer may be drawn but does not vote. A subset without votes is wrong.
    """
    answer, right = np.asarray(cluster), np.asarray(correct, float)
    n = subset_size(len(right), n, cluster=answer, correct=right)
    size, share = _clusters(answer, right)
    order = np.argsort(size, kind="stable")
    curve = _majority_curve(tuple(size[order].tolist()), tuple(share[order].tolist()), int((answer < 0).sum()))
    return float(curve[n])


def _clusters(answer: NDArray[Any], right: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Number of candidates and mean correctness of each answer."""
    _, ids = np.unique(answer[answer >= 0], return_inverse=True)
    size = np.bincount(ids)
    return size, np.bincount(ids, right[answer >= 0]) / np.maximum(size, 1)


@lru_cache(maxsize=4096)
def _majority_curve(sizes: tuple[int, ...], shares: tuple[float, ...], blanks: int) -> Floats:
    """[K+1]: ``majority`` for every n at once, from generating functions in x (candidates drawn).

    For a winning count t, a cluster of size c has fewer than t votes in A(x) = sum_{s<t} C(c, s) x^s
    ways and exactly t in B(x) = C(c, t) x^t ways. A winner tied with r others gets 1/(r+1), which is
    the integral of y^r over [0, 1]: so sum the integral of B_j prod_{i != j} (A_i + y B_i), weighted by
    the share of j. Gauss-Legendre is exact for these polynomials in y, and no term is negative.
    """
    k = sum(sizes) + blanks
    if k > 2000:
        raise ValueError(
            f"{k} candidates are too many: C(K, K/2) exceeds the range of floats above 2000. Vote over at most 2000."
        )
    ways = np.zeros(k + 1)
    for t in range(1, max(sizes, default=0) + 1):
        ways += _winning_ways(t, [(c, p) for c, p in zip(sizes, shares, strict=True) if c >= t], k)
    return cast(Floats, np.clip(ways / _binomials(k), 0, 1))  # rounding may leave 1 + 2e-16


def _winning_ways(t: int, active: list[tuple[int, float]], k: int) -> Floats:
    """[K+1] number of subsets of each size that a cluster wins with t votes, weighted by its correctness."""
    nodes, weights = _gauss(len(active) // 2 + 1)  # degree in y < len(active)
    free = k - sum(c for c, _ in active)  # blanks and clusters that cannot reach t votes
    polys = np.zeros((2, len(nodes), k + 1))  # [no winner yet | winner marked, y, x]
    polys[0, :, : free + 1] = _binomials(free)
    for c, share in active:
        factor = np.repeat(_binomials(c)[None, : t + 1], len(nodes), 0)  # [y, t+1]
        won = share * factor[0, t] * polys[0, :, : k + 1 - t]
        factor[:, t] *= (nodes + 1) / 2
        polys = _times(polys, factor)
        polys[1, :, t:] += won
    return cast(Floats, weights / 2 @ polys[1])


_gauss = lru_cache(maxsize=None)(np.polynomial.legendre.leggauss)


def _times(polys: Floats, factor: Floats) -> Floats:
    """Product of polynomials [..., Q, K+1] with factors [Q, t+1], dropping powers above K."""
    padded = np.concatenate([np.zeros((*polys.shape[:-1], factor.shape[1] - 1)), polys], -1)
    # as np.lib.stride_tricks.sliding_window_view, which takes longer than the product
    windows = np.ndarray((*polys.shape, factor.shape[1]), float, padded, 0, (*padded.strides, padded.strides[-1]))
    return cast(Floats, np.einsum("...qkt,qt->...qk", windows, factor[:, ::-1]))


@lru_cache(maxsize=2048)
def _binomials(k: int) -> Floats:
    """C(k, s) / sqrt(2)^k for s = 0 ... k: products keep this scale, and it centres the exponents of floats."""
    scale = 2 ** (k // 2), math.sqrt(2) ** (k % 2)
    return np.array([math.comb(k, s) / scale[0] / scale[1] for s in range(k + 1)])


@lru_cache(maxsize=64)
def _subsets(k: int, n: int, seed: int) -> Floats:
    """[M, K] membership of all n-subsets, or of a seeded sample if there are more than ``EXACT_SUBSETS``."""
    if math.comb(k, n) <= EXACT_SUBSETS:
        chosen = np.array(list(combinations(range(k), n)))
    else:
        draws = np.random.default_rng([seed, k, n]).random((SAMPLED_SUBSETS, k))
        chosen = draws.argpartition(n, 1)[:, :n]
    members = np.zeros((len(chosen), k))
    np.put_along_axis(members, chosen, 1.0, 1)
    return members


def weighted_vote(weights: ArrayLike, cluster: ArrayLike, correct: ArrayLike, n: int, seed: int = 0) -> float:
    """Expected correctness of the answer with the largest summed weight among n random candidates.

    Exact if there are at most ``EXACT_SUBSETS`` subsets. Otherwise an estimate from ``SAMPLED_SUBSETS`` subsets, which
    depend on K, n and seed only: the exact majority vote plus the sampled difference to it, clipped to [0, 1]. So
    votes are compared on paired subsets, and equal weights give exactly ``majority``. Ties and missing answers count
    as in ``majority``.
    """
    return float(sampled_votes([weights], [cluster], [correct], [n], seed).values[0, 0])


class Votes(NamedTuple):
    """Weighted votes of P problems at C numbers of candidates, with the error that sampled subsets add to the mean."""

    values: Floats  # [P, C]
    errors: Floats  # [C] standard error of the mean over problems, 0 where all subsets were enumerated


def sampled_votes(
    weights: Sequence[ArrayLike],
    clusters: Sequence[ArrayLike],
    corrects: Sequence[ArrayLike],
    counts: Sequence[int],
    seed: int = 0,
) -> Votes:
    """``weighted_vote`` of many problems at many n. Problems with the same K share subsets, so their errors add up."""
    polls = [_Poll.of(*arrays, min(counts)) for arrays in zip(weights, clusters, corrects, strict=True)]
    values, variances = np.zeros((len(polls), len(counts))), np.zeros(len(counts))
    for k in sorted({len(poll.weight) for poll in polls}):
        same = [i for i, poll in enumerate(polls) if len(poll.weight) == k]
        for c, n in enumerate(counts):
            summed = np.zeros(1)  # [M] over the problems, what each subset adds to the exact majority vote
            for at in range(0, len(same), TOGETHER):
                part = same[at : at + TOGETHER]
                values[part, c], gains = _vote_together([polls[i] for i in part], k, min(n, k), seed)
                summed = summed + gains
            variances[c] += summed.var(ddof=1) / len(summed) if len(summed) > 1 else 0.0
    return Votes(values, np.sqrt(variances) / max(len(polls), 1))


TOGETHER = 128  # problems voted on at once: bounds the memory


class _Poll(NamedTuple):
    """Candidates of one problem as voters; A different answers."""

    weight: Floats  # [K]
    answer: NDArray[Any]  # [K]
    right: Floats  # [K]
    gave: Floats  # [K, A] 1 for the answer of each candidate; a row of 0 without an answer
    share: Floats  # [A] correctness of each answer

    @classmethod
    def of(cls, weights: ArrayLike, cluster: ArrayLike, correct: ArrayLike, n: int) -> _Poll:
        weight, answer, right = np.asarray(weights, float), np.asarray(cluster), np.asarray(correct, float)
        subset_size(len(weight), n, weights=weight, cluster=answer, correct=right)
        if (weight < 0).any() or np.isinf(weight).any():
            raise ValueError(
                f"The weights range from {weight.min()} to {weight.max()}, but a vote needs finite weights >= 0."
            )
        gave = (np.unique(answer[answer >= 0]) == answer[:, None]).astype(float)
        return cls(weight, answer, right, gave, _clusters(answer, right)[1])


def _vote_together(polls: Sequence[_Poll], k: int, n: int, seed: int) -> tuple[Floats, Floats]:
    """[P] expectations, and [M] for each sampled subset the summed difference to the majority vote, [1] 0 if exact."""
    members = _subsets(k, n, seed)
    won = _won(members, polls)
    if math.comb(k, n) <= EXACT_SUBSETS:
        return won.mean(0), np.zeros(1)
    answers, rights = (np.stack(rows).astype(float) for rows in ([p.answer for p in polls], [p.right for p in polls]))
    plain, exact = _unweighted(k, n, seed, answers.tobytes(), rights.tobytes())
    return np.clip(exact + (won.mean(0) - plain.mean(0)), 0, 1), (won - plain).sum(1)


@lru_cache(maxsize=16)  # several weights are compared on the same answers
def _unweighted(k: int, n: int, seed: int, answers: bytes, rights: bytes) -> tuple[Floats, Floats]:
    """``_won`` with equal weights and ``majority``, of P problems with answers [P, K] and correctness [P, K]."""
    rows = list(zip(np.frombuffer(answers).reshape(-1, k), np.frombuffer(rights).reshape(-1, k), strict=True))
    won = _won(_subsets(k, n, seed), [_Poll.of(np.ones(k), answer, right, n) for answer, right in rows])
    return won, np.array([majority(answer, right, n) for answer, right in rows])


def _won(members: Floats, polls: Sequence[_Poll]) -> Floats:
    """[M, P] correctness of the winning answer in each subset of ``members`` [M, K], for every problem.

    The answers of all problems are columns of one matrix [K, A]; each problem has a contiguous segment of columns.
    """
    out = np.zeros((len(members), len(polls)))
    voted = [i for i, poll in enumerate(polls) if len(poll.share)]
    if not voted:
        return out
    share = np.concatenate([polls[i].share for i in voted])  # [A]
    width = np.array([len(polls[i].share) for i in voted])
    start = np.cumsum(width) - width
    drawn = members @ np.concatenate([polls[i].gave for i in voted], 1) > 0  # [M, A]
    weighed = np.concatenate([polls[i].weight[:, None] * polls[i].gave for i in voted], 1)  # [K, A]
    summed = np.where(drawn, members @ weighed, -1.0)  # [M, A]
    best = np.repeat(np.maximum(np.maximum.reduceat(summed, start, 1), 0.0), width, 1)
    tied = drawn & (summed >= best * (1 - 1e-9))  # sums of equal weights differ by their order's rounding
    winners = np.maximum(np.add.reduceat(tied, start, 1, dtype=float), 1)  # [M, P]
    out[:, voted] = np.add.reduceat(tied * share, start, 1) / winners
    return out
