from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.testing import assert_close

from lit_prm.losses.dpo import DPO
from lit_prm.losses.nca import NCA
from lit_prm.losses.pairs import AllPairs, BestWorst, CappedPairs, DisjointPairs, PairLoss, Pairs, preference_pairs
from tests import reference
from tests.loss_inputs import Data, assert_equals_reference, mean_and_gradient, rewarded, roundings, shuffled

STRATEGIES = [AllPairs(), DisjointPairs(), CappedPairs(3), BestWorst()]
every_strategy = pytest.mark.parametrize("pairs", STRATEGIES, ids=lambda p: type(p).__name__)


def problem(right: int, wrong: int) -> tuple[Tensor, Tensor]:
    """Labels and group of one problem, right responses first."""
    return torch.tensor([1.0] * right + [0.0] * wrong), torch.zeros(right + wrong, dtype=torch.long)


def pairs_of(pairs: Pairs, rewards: Tensor, labels: Tensor, group: Tensor) -> list[tuple[int, int]]:
    right, wrong = pairs(rewards, labels, group)
    return list(zip(right.tolist(), wrong.tolist(), strict=True))


def counts(labels: Tensor, group: Tensor) -> Counter[tuple[int, bool]]:
    """Responses of every problem and side."""
    return Counter((int(g), bool(y > 0.5)) for y, g in zip(labels, group, strict=True))


@given(rewarded())
@settings(deadline=None)
def test_dpo_equals_its_slow_reference(data: Data) -> None:
    assert_equals_reference(DPO(), data, lambda r: reference.dpo(r, data[1], data[2]))


@given(rewarded())
@settings(deadline=None)
def test_nca_equals_its_slow_reference(data: Data) -> None:
    assert_equals_reference(NCA(), data, lambda r: reference.nca(r, data[1], data[2]))


@pytest.mark.parametrize(("loss", "first"), [(DPO(), math.log(2)), (NCA(), 2 * math.log(2))], ids=["dpo", "nca"])
def test_first_loss(loss: PairLoss, first: float) -> None:
    labels, group = problem(2, 3)
    assert_close(loss(torch.zeros(5), labels, group), torch.full((6,), first))


@pytest.mark.parametrize("loss", [DPO(), NCA()], ids=["dpo", "nca"])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_confidently_wrong_pairs_have_a_gradient(loss: PairLoss, size: float) -> None:
    _, gradient = mean_and_gradient(loss, torch.tensor([-size, size]), *problem(1, 1))
    assert gradient[0] < -0.4
    assert gradient[1] > 0.4


def test_dpo_ignores_a_shift_shared_by_a_problem() -> None:
    rewards, labels = torch.tensor([1.0, -2.0, 3.0, 0.5]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    group = torch.tensor([0, 0, 1, 1])
    shift = torch.tensor([7.0, 7.0, -3.0, -3.0])
    assert_close(DPO()(rewards + shift, labels, group), DPO()(rewards, labels, group))


def test_pairs_are_all_right_times_wrong_of_one_problem() -> None:
    labels, group = torch.tensor([1, 0, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 0, 1, 2])
    right, wrong = preference_pairs(labels, group)
    assert sorted(zip(right.tolist(), wrong.tolist(), strict=True)) == [(0, 1), (0, 2), (3, 1), (3, 2)]


@every_strategy
@given(rewarded())
@settings(deadline=None)
def test_every_strategy_chooses_among_all_pairs_by_number(pairs: Pairs, data: Data) -> None:
    """Each problem has its number of distinct pairs, whatever the rewards, and no pair crosses problems."""
    rewards, labels, group = data
    chosen = pairs_of(pairs, rewards, labels, group)
    assert len(chosen) == len(set(chosen))
    assert set(chosen) <= set(pairs_of(AllPairs(), *data))
    number, size = Counter(int(group[right]) for right, _ in chosen), counts(labels, group)
    for g in group.unique().tolist():
        r, w = size[g, True], size[g, False]
        expected = {AllPairs: r * w, DisjointPairs: min(r, w), CappedPairs: min(3, r * w), BestWorst: min(1, r * w)}
        assert number[g] == expected[type(pairs)]
    assert DPO(pairs).num_terms(labels, group) == len(chosen)
    assert DPO(pairs, per_problem=True).num_terms(labels, group) == len(number)


def test_disjoint_pairs_are_ith_with_ith() -> None:
    labels, group = torch.tensor([0.0, 1, 1, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 0, 0, 1, 1])
    assert pairs_of(DisjointPairs(), torch.zeros(7), labels, group) == [(1, 0), (2, 3), (5, 6)]


@pytest.mark.parametrize(("right", "wrong"), [(3, 5), (5, 3), (4, 4), (1, 7), (7, 1)])
def test_capped_pairs_share_a_response_no_sooner_than_they_must(right: int, wrong: int) -> None:
    labels, group = problem(right, wrong)
    for most in range(1, right * wrong + 2):
        chosen = pairs_of(CappedPairs(most), torch.zeros(len(labels)), labels, group)
        assert len(chosen) == min(most, right * wrong)
        for uses in (Counter(w for w, _ in chosen), Counter(k for _, k in chosen)):
            assert max(uses.values()) <= math.ceil(len(chosen) / min(right, wrong))


def test_capped_pairs_begin_with_the_disjoint_ones() -> None:
    labels, group = problem(3, 5)
    zeros = torch.zeros(8)
    assert pairs_of(CappedPairs(3), zeros, labels, group) == pairs_of(DisjointPairs(), zeros, labels, group)


@given(rewarded())
@settings(deadline=None)
def test_best_and_worst_are_the_largest_margin_of_a_problem(data: Data) -> None:
    rewards, _, group = data
    chosen = pairs_of(BestWorst(), *data)
    margins = {int(group[w]): float(rewards[w]) - float(rewards[k]) for w, k in chosen}
    for w, k in pairs_of(AllPairs(), *data):
        assert margins[int(group[w])] >= float(rewards[w]) - float(rewards[k])


def test_of_equal_rewards_the_first_row_is_best_and_worst() -> None:
    labels, group = problem(3, 3)
    rewards = torch.tensor([1.0, 2.0, 2.0, 5.0, 4.0, 4.0])
    assert pairs_of(BestWorst(), rewards, labels, group) == [(1, 4)]


@given(rewarded())
@settings(deadline=None)
def test_per_problem_is_the_mean_of_the_means_of_problems(data: Data) -> None:
    rewards, labels, group = data
    of_problem = [DPO()(*(column[group == g] for column in data)) for g in group.unique()]
    means = torch.stack([terms.mean() for terms in of_problem if len(terms)])
    assert_close(DPO(per_problem=True)(rewards, labels, group), means, rtol=0, atol=roundings(rewards)[0])


@given(rewarded())
@settings(deadline=None)
def test_pair_losses_do_not_depend_on_row_order(data: Data) -> None:
    for loss in (DPO(), NCA(), DPO(BestWorst())):
        assert_close(loss(*shuffled(data)).sort().values, loss(*data).sort().values, rtol=0, atol=roundings(data[0])[0])


def test_no_pairs_at_most_is_refused() -> None:
    with pytest.raises(ValueError, match="most is 0, which leaves no pair"):
        CappedPairs(0)
