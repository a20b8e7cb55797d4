"""The base of losses on pairs of a right and a wrong response to one problem, and ways to choose the pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_prm.losses.base import Loss
from lit_prm.losses.segments import group_means, group_sums, numbered, place_in_group


class Pairs(ABC):
    """Chooses which right responses are compared with which wrong ones of the same problem.

    The number of pairs depends on labels and problems alone, never on rewards. The choice inside a problem depends
    on nothing outside the problem, so a global batch may be cut between any two problems.
    """

    @abstractmethod
    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Row of the right and row of the wrong response of every pair; [N], [N], [N] -> [P], [P]."""


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
    """At most ``most`` pairs of a problem, disjoint pairs first.

    The pairs are taken by diagonals d = 0, 1, ...: the i-th right with the (i + d)-th wrong response, min(R, W) pairs
    each. So no response is in a second pair before every pair of the first diagonal is taken, and so on.
    """

    def __init__(self, most: int = 8) -> None:
        if most < 1:
            raise ValueError(f"most is {most}, which leaves no pair to train on. Give most >= 1.")
        self.most = most

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        right, wrong = preference_pairs(labels, group)
        keep = _diagonal_place(right, wrong, labels, group) < self.most
        return right[keep], wrong[keep]


class BestWorst(Pairs):
    """One pair of a problem: the right response with the highest reward and the wrong one with the lowest.

    This pair has the largest margin. Among equal rewards the first row is taken.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        # highest right and lowest wrong reward first
        order = torch.where(labels > 0.5, -rewards, rewards).argsort(stable=True)
        right, wrong = CappedPairs(1)(rewards[order], labels[order], group[order])
        return order[right], order[wrong]


class PairLoss(Loss):
    """Base of losses that are a function of the two rewards of every pair; a subclass defines ``terms``.

    Each response's reward is computed once, whatever number of pairs it is in. A problem whose responses are all
    right or all wrong has no pair and no term. By default there is one term a pair. With ``per_problem`` there is one
    term a problem, the mean over its pairs, so that a problem with 16 pairs weighs no more than one with 7.
    """

    contrast = True

    def __init__(self, pairs: Pairs | None = None, per_problem: bool = False) -> None:
        self.pairs = pairs or AllPairs()
        self.per_problem = per_problem

    @abstractmethod
    def terms(self, right: Tensor, wrong: Tensor) -> Tensor:
        """The term of each pair, from the rewards of its right and its wrong response; [P], [P] -> [P]."""

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
    """Place of each response among the responses of its problem with the same label; [N], [N] -> [N]."""
    return place_in_group(2 * group + (labels > 0.5).long())


def _diagonal_place(right: Tensor, wrong: Tensor, labels: Tensor, group: Tensor) -> Tensor:
    """Place of each pair among the R * W pairs of its problem, in the order of ``CappedPairs``; [P] -> [P]."""
    place, index = _place_in_side(labels, group), numbered(group)[0][right]
    rights = group_sums((labels > 0.5).long(), group)[index]
    wrongs = group_sums((labels < 0.5).long(), group)[index]
    i, j = place[right], place[wrong]
    diagonal = (j - i) % rights.maximum(wrongs)
    return diagonal * rights.minimum(wrongs) + torch.where(rights <= wrongs, i, j)
