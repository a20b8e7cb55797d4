from __future__ import annotations

import math

import torch
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from lit_prm.losses.biased_nca import BiasedNCA
from lit_prm.losses.ce import CE
from lit_prm.losses.pairs import DisjointPairs

LABELS, GROUP = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1, 1])
REWARDS = torch.tensor([1.5, -0.3, 2.0, -1.0, 0.7])


def test_first_value() -> None:
    assert_close(BiasedNCA()(torch.zeros(5), LABELS, GROUP), torch.full((3,), 2 * math.log(2)))


def test_every_pair_is_a_right_one_above_and_a_wrong_one_below_zero() -> None:
    pairs = [(0, 1), (0, 2), (3, 4)]
    slow = [-math.log(1 / (1 + math.exp(-REWARDS[w]))) - math.log(1 / (1 + math.exp(REWARDS[k]))) for w, k in pairs]
    assert_close(BiasedNCA()(REWARDS, LABELS, GROUP), torch.tensor(slow))


def test_on_disjoint_pairs_it_is_cross_entropy_twice_over() -> None:
    labels, group = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    rewards = REWARDS[:4]
    pairs = BiasedNCA(DisjointPairs())(rewards, labels, group)
    assert_close(pairs.mean(), 2 * CE()(rewards, labels, group).mean())
    assert_close(pairs[0], -logsigmoid(rewards[0]) - logsigmoid(-rewards[1]))
