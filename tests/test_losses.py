from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO, preference_pairs
from tests import reference

GOLDEN = json.loads((Path(__file__).parent / "golden" / "trl_losses.json").read_text())


@st.composite
def rewarded(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, labels and problems of up to 12 responses, with at least one right-wrong pair."""
    n = draw(st.integers(2, 12))
    rewards = draw(st.lists(st.floats(-20, 20, width=32), min_size=n, max_size=n))
    labels = [1.0, 0.0, *draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n - 2, max_size=n - 2))]
    group = [0, 0, *draw(st.lists(st.integers(0, 3), min_size=n - 2, max_size=n - 2))]
    return torch.tensor(rewards), torch.tensor(labels), torch.tensor(group)


def mean_and_gradient(loss: Loss, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    rewards = rewards.clone().requires_grad_()
    value = loss(rewards, labels, group).mean()
    (gradient,) = torch.autograd.grad(value, rewards)
    return value.detach(), gradient


@given(rewarded())
@settings(max_examples=60, deadline=None)
def test_ce_equals_its_slow_reference(data: tuple[Tensor, Tensor, Tensor]) -> None:
    value, gradient = mean_and_gradient(CE(), *data)
    slow = data[0].double().requires_grad_()
    expected = reference.ce(slow, data[1])
    assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    assert_close(gradient.double(), torch.autograd.grad(expected, slow)[0], rtol=1e-6, atol=1e-6)


@given(rewarded())
@settings(max_examples=60, deadline=None)
def test_dpo_equals_its_slow_reference(data: tuple[Tensor, Tensor, Tensor]) -> None:
    value, gradient = mean_and_gradient(DPO(), *data)
    slow = data[0].double().requires_grad_()
    expected = reference.dpo(slow, data[1], data[2])
    assert_close(value.double(), expected, rtol=1e-6, atol=2e-6)
    assert_close(gradient.double(), torch.autograd.grad(expected, slow)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", [CE(), DPO()], ids=["ce", "dpo"])
def test_first_loss_is_ln_2(loss: Loss) -> None:
    labels, group = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    assert_close(loss(torch.zeros(4), labels, group).mean().item(), math.log(2))


@pytest.mark.parametrize("loss", [CE(), DPO()], ids=["ce", "dpo"])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_gradients_of_confidently_wrong_responses_are_finite_and_alive(loss: Loss, size: float) -> None:
    labels, group = torch.tensor([1.0, 0.0]), torch.zeros(2, dtype=torch.long)
    value, gradient = mean_and_gradient(loss, torch.tensor([-size, size]), labels, group)
    assert torch.isfinite(value)
    assert (gradient.abs() > 0.4).all()


@given(rewarded())
@settings(max_examples=40, deadline=None)
def test_losses_do_not_depend_on_row_order(data: tuple[Tensor, Tensor, Tensor]) -> None:
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(1))
    for loss in (CE(), DPO()):
        moved = loss(*(column[order] for column in data)).sort().values
        assert_close(loss(*data).sort().values, moved)


def test_dpo_ignores_a_shift_shared_by_a_problem() -> None:
    rewards, labels = torch.tensor([1.0, -2.0, 3.0, 0.5]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    group = torch.tensor([0, 0, 1, 1])
    shift = torch.tensor([7.0, 7.0, -3.0, -3.0])
    assert_close(DPO()(rewards + shift, labels, group), DPO()(rewards, labels, group))


def test_pairs_are_all_right_times_wrong_of_one_problem() -> None:
    labels, group = torch.tensor([1, 0, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 0, 1, 2])
    right, wrong = preference_pairs(labels, group)
    assert sorted(zip(right.tolist(), wrong.tolist(), strict=True)) == [(0, 1), (0, 2), (3, 1), (3, 2)]


@pytest.mark.parametrize("loss", [CE(), DPO()], ids=["ce", "dpo"])
def test_number_of_terms_is_known_from_labels_alone(loss: Loss) -> None:
    labels, group = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 0, 1, 2])
    assert loss.num_terms(labels, group) == loss(torch.randn(5), labels, group).numel()


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: c["name"])
def test_losses_equal_trls(case: dict[str, list[float] | str]) -> None:
    """Values and gradients of TRL on the same log-probs; provenance is in the file."""
    beta = GOLDEN["beta"]
    policy = torch.tensor(case["policy"], requires_grad=True)
    rewards = beta * (policy - torch.tensor(case["reference"]))
    loss = {"sigmoid": DPO(), "bco_pair": CE()}[str(case["loss_type"])]
    value = loss(rewards, torch.tensor(case["labels"]), torch.tensor(case["group"])).mean()
    (gradient,) = torch.autograd.grad(value, policy)
    # bco_pair adds the right and the wrong response's terms; ours is their mean
    halve = 0.5 if case["loss_type"] == "bco_pair" else 1.0
    assert_close(value.item(), halve * float(case["loss"]), rtol=1e-6, atol=1e-6)  # type: ignore[arg-type]
    assert_close(gradient, halve * torch.tensor(case["gradient"]), rtol=1e-5, atol=1e-8)
