"""Objectives on pairs of a right and a wrong response to one problem, and the ways to choose the pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_prm.losses.base import Loss
from lit_prm.losses.segments import group_means, group_sums, numbered, place_in_group


class Pairs(ABC):
    """Which right responses are compared with which wrong ones of the same problem.

    How many pairs there are depends on labels and problems alone, never on rewards, and which ones on nothing
    outside their problem: a global batch may be cut between any two problems.
    """

    @abstractmethod
    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (right, wrong) of every pair; [N], [N], [N] -> [P], [P]."""


class AllPairs(Pairs):
    """Every right with every wrong response: R x W pairs of a problem, as in the paper's DPO runs."""

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        return preference_pairs(labels, group)


class DisjointPairs(Pairs):
    """The i-th right with the i-th wrong response, in row order: min(R, W) pairs that share no response."""

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        right, wrong = preference_pairs(labels, group)
        place = _place_in_side(labels, group)
        keep = place[right] == place[wrong]
        return right[keep], wrong[keep]


class CappedPairs(Pairs):
    """At most ``most`` pairs of a problem, first the disjoint ones.

    They are taken diagonal by diagonal, i-th right with (i + d)-th wrong for d = 0, 1, ..., of min(R, W) pairs
    each: no response is in a second pair before the first diagonal is full, or in a third before the second is.
    """

    def __init__(self, most: int = 8) -> None:
        if most < 1:
            raise ValueError(f"at most {most} pairs of a problem leave nothing to train on; give most >= 1")
        self.most = most

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        right, wrong = preference_pairs(labels, group)
        keep = _diagonal_place(right, wrong, labels, group) < self.most
        return right[keep], wrong[keep]


class BestWorst(Pairs):
    """One pair of a problem: its right response of highest and its wrong one of lowest reward, the largest margin.

    Of equal rewards the first row's counts.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.where(labels > 0.5, -rewards, rewards).argsort(stable=True)  # the sought ones first on each side
        right, wrong = CappedPairs(1)(rewards[order], labels[order], group[order])
        return order[right], order[wrong]


class PairLoss(Loss):
    """A function of the two rewards of every pair; rewards are computed once a response, whatever the pairs.

    A problem whose responses are all right or all wrong has no pair and no term. ``per_problem``: the term is
    a problem's mean over its pairs, so that one of 4 right and 4 wrong weighs no more than one of 1 and 7.
    """

    contrast = True

    def __init__(self, pairs: Pairs | None = None, per_problem: bool = False) -> None:
        self.pairs = pairs or AllPairs()
        self.per_problem = per_problem

    @abstractmethod
    def terms(self, right: Tensor, wrong: Tensor) -> Tensor:
        """Rewards of each pair's right and wrong response -> its term; [P], [P] -> [P]."""

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        right, wrong = self.pairs(rewards, labels, group)
        rewards = rewards.float()
        terms = self.terms(rewards[right], rewards[wrong])
        return group_means(terms, group[right]) if self.per_problem else terms


def preference_pairs(labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (right, wrong) of every pair inside a problem, in row order; [N], [N] -> [P], [P]."""
    same_problem = group.unsqueeze(1) == group.unsqueeze(0)
    is_pair = same_problem & (labels > 0.5).unsqueeze(1) & (labels < 0.5).unsqueeze(0)
    right, wrong = is_pair.nonzero(as_tuple=True)
    return right, wrong


def _place_in_side(labels: Tensor, group: Tensor) -> Tensor:
    """Place of each response among those of its problem that are as right, or as wrong, as it is; [N] -> [N]."""
    return place_in_group(2 * group + (labels > 0.5).long())


def _diagonal_place(right: Tensor, wrong: Tensor, labels: Tensor, group: Tensor) -> Tensor:
    """Place of each pair in its problem's R * W ones, taken by wrapped diagonals of min(R, W) each; [P] -> [P]."""
    place, index = _place_in_side(labels, group), numbered(group)[0][right]
    rights = group_sums((labels > 0.5).long(), group)[index]
    wrongs = group_sums((labels < 0.5).long(), group)[index]
    i, j = place[right], place[wrong]
    diagonal = (j - i) % rights.maximum(wrongs)
    return diagonal * rights.minimum(wrongs) + torch.where(rights <= wrongs, i, j)
