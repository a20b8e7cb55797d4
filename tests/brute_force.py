"""Selection over all subsets, by loops: `python -m tests.brute_force FILE [PROBLEMS]` prints what `bon` prints."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

Chooser = Callable[[Sequence[int]], float]  # indices of a subset -> how right the choice is


def over_subsets(k: int, n: int, choose: Chooser) -> float:
    """The mean over all subsets of min(n, k) of k candidates."""
    found = [choose(subset) for subset in combinations(range(k), min(n, k))]
    return sum(found) / len(found)


def random(right: Sequence[bool], n: int) -> float:
    return over_subsets(len(right), n, lambda s: sum(right[i] for i in s) / len(s))


def any_of(right: Sequence[bool], n: int) -> float:
    return over_subsets(len(right), n, lambda s: float(any(right[i] for i in s)))


def best(scores: Sequence[float], right: Sequence[float], n: int) -> float:
    """Candidates tied at the top are drawn from evenly."""

    def choose(subset: Sequence[int]) -> float:
        top = max(scores[i] for i in subset)
        tied = [right[i] for i in subset if scores[i] == top]
        return sum(tied) / len(tied)

    return over_subsets(len(right), n, choose)


def majority(answers: Sequence[int], right: Sequence[bool], n: int) -> float:
    """Answers tied at the top are drawn from evenly; -1 does not vote; an answer is as right as all who gave it."""
    given = {a: [r for b, r in zip(answers, right, strict=True) if b == a] for a in answers}

    def choose(subset: Sequence[int]) -> float:
        votes = Counter(answers[i] for i in subset if answers[i] >= 0)
        winners = [a for a in votes if votes[a] == max(votes.values())]
        return sum(sum(given[a]) / len(given[a]) for a in winners) / len(winners) if winners else 0.0

    return over_subsets(len(right), n, choose)


if __name__ == "__main__":
    from lit_prm.data.formats import read_groups

    groups = read_groups(sys.argv[1]).groups[: int(sys.argv[2]) if sys.argv[2:] else None]
    labels = [[bool(r.correct) for r in g.rollouts] for g in groups]
    lengths = [[-len(r.response) for r in g.rollouts] for g in groups]
    for n in range(1, 9):
        rows = [(random(y, n), any_of(y, n), best(x, y, n)) for x, y in zip(lengths, labels, strict=True)]
        means = (100 * sum(column) / len(rows) for column in zip(*rows, strict=True))
        print(f"N={n}: random {next(means):.2f}, any right {next(means):.2f}, shortest {next(means):.2f}")
