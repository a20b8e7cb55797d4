"""Two rules on the same problems: paired differences at every N, McNemar's exact test where outcomes are 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from lit_prm.evaluation.discrimination import Floats
from lit_prm.evaluation.estimate import Estimate
from lit_prm.evaluation.intervals import mcnemar


class PairedDifference(NamedTuple):
    """``first`` minus ``second``, with bootstrap intervals over problems; [C].

    Below N = K an outcome is an expectation over subsets, neither 0 nor 1, so only the bootstrap applies. At N = K
    McNemar's test counts the problems that one rule alone solves; ``undecided`` counts those where a rule shared a tie.
    """

    first: str
    second: str
    differences: tuple[Estimate, ...]
    first_only: int
    second_only: int
    undecided: int
    p: float


def compared(first: str, second: str, ours: Floats, theirs: Floats) -> PairedDifference:
    """The paired difference of two curves [P, C] over the same problems; their last column is N = K."""
    differences = tuple(Estimate.of(column) for column in (ours - theirs).T)
    a, b = ours[:, -1].round(9), theirs[:, -1].round(9)  # a vote's 1 may be 1 - 1e-16
    decided = np.isin(a, (0, 1)) & np.isin(b, (0, 1))
    wins, losses = int((decided & (a > b)).sum()), int((decided & (a < b)).sum())
    return PairedDifference(first, second, differences, wins, losses, int((~decided).sum()), mcnemar(wins, losses))


def all_pairs(curves: Mapping[str, Floats]) -> list[PairedDifference]:
    """Every two of the curves `scorer: rule` that differ in the scorer alone or in the rule alone."""
    named = [(name, name.rpartition(": ")) for name in curves]
    return [
        compared(a, b, curves[a], curves[b])
        for (a, (scorer, _, rule)), (b, (other, _, its)) in combinations(named, 2)
        if scorer == other or rule == its or not scorer or not other
    ]
