from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lit_prm.losses import Loss
from lit_prm.losses.step_rank import StepRank
from lit_prm.losses.steps import StepAbs, StepCE, StepLoss, StepSquared
from tests import reference
from tests.loss_inputs import Data, assert_equals_reference, mean_and_gradient, random_view, rewarded, terms_of
from tests.rounding import float32_bound

EVERY: list[StepLoss] = [StepCE(), StepAbs(), StepSquared(), StepRank()]
every_step_loss = pytest.mark.parametrize("loss", EVERY, ids=lambda x: type(x).__name__)


@given(rewarded(), st.booleans())
@settings(deadline=None)
def test_step_means_equal_their_slow_references(data: Data, soft: bool) -> None:
    rewards, labels, group = data
    labels = (labels * 0.75 + 0.125) if soft else labels
    for loss, term in (
        (StepCE(), reference.step_ce),
        (StepAbs(), reference.step_abs),
        (StepSquared(), reference.step_squared),
    ):
        restated = partial(reference.step_mean, labels=labels, group=group, term=term)
        assert_equals_reference(loss, (rewards, labels, group), restated)


@given(rewarded(), st.sampled_from([0.0, 4.0]))
@settings(deadline=None)
def test_step_rank_equals_its_slow_reference(data: Data, margin: float) -> None:
    assert_equals_reference(StepRank(margin), data, lambda q: reference.step_rank(q, data[1], data[2], margin))


@pytest.mark.parametrize(
    ("loss", "first"),
    [
        (StepCE(), math.log(2)),
        (StepAbs(), math.log(2)),
        (StepSquared(), 0.25),
        (StepRank(margin=0), math.log(6) / 2),  # right, wrong, right: shares 1/2 and 1/3
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Loss) else None,
)
def test_first_loss(loss: Loss, first: float) -> None:
    terms = loss(torch.zeros(3), torch.tensor([1.0, 0.0, 1.0]), torch.zeros(3, dtype=torch.long))
    assert_close(terms, torch.tensor([first]), rtol=0, atol=float32_bound(20, 1.0))


@every_step_loss
def test_only_labelled_steps_that_own_a_token_are_seen(loss: StepLoss) -> None:
    view = random_view(torch.randn(6, 12, generator=torch.Generator().manual_seed(1)))
    at_steps = view.step_values if isinstance(loss, StepRank) else view.step_rewards
    seen = loss.observe(view)
    expected = [
        (float(at_steps[b, s]), float(view.step_labels[b, s]), b)
        for b in range(6)
        for s in range(view.valid.shape[1])
        if view.valid[b, s] and not math.isnan(view.step_labels[b, s])
    ]
    rewards, labels, group = (list(column) for column in zip(*expected, strict=True))
    assert (seen.rewards.tolist(), seen.labels.tolist(), seen.group.tolist()) == (rewards, labels, group)


@every_step_loss
def test_every_response_weighs_the_same(loss: StepLoss) -> None:
    """An update is divided by its responses, of which each has one term."""
    assert loss.label == "steps"
    assert loss.num_terms(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 0, 1])) == 3
    view = random_view(torch.randn(6, 12, generator=torch.Generator().manual_seed(2)))
    assert terms_of(loss, view).shape == (6,)


def test_confidently_wrong_steps_have_a_gradient() -> None:
    labels, group = torch.tensor([1.0, 0.0]), torch.zeros(2, dtype=torch.long)
    for loss in (StepCE(), StepRank()):
        _, gradient = mean_and_gradient(loss, torch.tensor([-1e4, 1e4]), labels, group)
        assert gradient[0] < -0.4
        assert gradient[1] > 0.4


def test_the_papers_formula_grows_right_rewards_of_either_sign() -> None:
    labels, group = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.arange(4)
    _, gradient = mean_and_gradient(StepAbs(), torch.tensor([2.0, -2.0, 2.0, -2.0]), labels, group)
    assert gradient.sign().tolist() == [-1, 1, 1, -1]


def test_rank_ignores_a_shift_shared_by_a_response() -> None:
    values, labels = torch.tensor([1.0, -2.0, 3.0, 0.5, 2.0]), torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    group, shift = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([7.0, 7.0, 7.0, -3.0, -3.0])
    assert_close(StepRank()(values + shift, labels, group), StepRank()(values, labels, group))


def test_rank_wants_right_values_to_rise_and_wrong_ones_below_by_the_margin() -> None:
    labels, group = torch.tensor([1.0, 1.0, 0.0]), torch.zeros(3, dtype=torch.long)
    good, falling, close = ([0.0, 30.0, -30.0], [30.0, 0.0, -30.0], [0.0, 30.0, -2.0])
    terms = [StepRank(margin=4.0)(torch.tensor(q), labels, group).item() for q in (good, falling, close)]
    assert_close(terms, [0.0, 15.0, math.log1p(math.exp(2)) / 2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rank_of_a_response_with_one_kind_of_step_keeps_its_graph(label: float) -> None:
    values = torch.tensor([1.0], requires_grad=True)
    terms = StepRank()(values, torch.tensor([label]), torch.zeros(1, dtype=torch.long))
    assert terms.tolist() == [0.0]
    assert torch.autograd.grad(terms.sum(), values)[0].tolist() == [0.0]


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="margin -1 is not"):
        StepRank(-1)
