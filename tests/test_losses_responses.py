from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.kway import InfoNCA, KWayNCA
from lit_prm.losses.nca import NCA
from lit_prm.losses.prefix_ce import PrefixCE
from tests import reference
from tests.loss_inputs import (
    Data,
    assert_equals_reference,
    mean_and_gradient,
    random_view,
    rewarded,
    roundings,
    shuffled,
    terms_of,
)
from tests.rounding import float32_bound

PAIR: tuple[Tensor, Tensor] = (torch.tensor([1.0, 0.0]), torch.zeros(2, dtype=torch.long))  # labels and group


@given(rewarded())
@settings(deadline=None)
def test_ce_equals_its_slow_reference(data: Data) -> None:
    assert_equals_reference(CE(), data, lambda r: reference.ce(r, data[1]))


@given(rewarded(), st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), st.floats(0, 3))
@settings(deadline=None)
def test_kto_equals_its_slow_reference(data: Data, mismatched: list[float], weight: float) -> None:
    loss, drift = KTO(desirable=weight, undesirable=0.75), torch.tensor(mismatched)
    rewards, labels, group = data
    shifted = (rewards - loss.zero_point(drift), labels, group)
    value, gradient = mean_and_gradient(loss, *shifted)
    slow = rewards.double().requires_grad_()
    expected = reference.kto(slow, labels, drift, weight, 0.75)
    in_value, in_gradient = roundings(torch.cat([rewards, drift]))
    assert_close(value.double(), expected, rtol=0, atol=3 * in_value)  # of the largest weight
    assert_close(gradient.double(), torch.autograd.grad(expected, slow)[0], rtol=0, atol=3 * in_gradient)


@given(rewarded(), st.sampled_from([0.01, 0.3, 2.0]))
@settings(deadline=None)
def test_kway_losses_equal_their_slow_references(data: Data, alpha: float) -> None:
    assert_equals_reference(InfoNCA(alpha), data, lambda r: reference.info_nca(r, data[1], data[2], alpha))
    assert_equals_reference(KWayNCA(alpha), data, lambda r: reference.kway_nca(r, data[1], data[2], alpha))


@given(rewarded(), st.sampled_from([0.0, 1.0, 5.0]), st.sampled_from([-2.0, 0.0, 1.5]))
@settings(deadline=None)
def test_prefix_ce_equals_its_slow_reference(data: Data, margin: float, late: float) -> None:
    loss = PrefixCE(margin=margin, late=late)
    assert_equals_reference(loss, data, lambda v: reference.prefix_ce(v, data[1], data[2], margin, late))


@pytest.mark.parametrize(
    ("loss", "first"),
    [
        (CE(), math.log(2)),
        (KTO(), 0.5),
        (InfoNCA(), math.log(2)),
        (KWayNCA(), 2 * math.log(2)),
        (PrefixCE(margin=0), math.log(2)),
        (PrefixCE(margin=5), math.log(1 + math.exp(5))),
    ],
    ids=["ce", "kto", "info-nca", "kway-nca", "prefix-ce", "prefix-ce-margin"],
)
def test_first_loss(loss: Loss, first: float) -> None:
    assert loss(torch.zeros(2), *PAIR).mean().item() == pytest.approx(first, abs=float32_bound(10, 5.0))


@pytest.mark.parametrize("loss", [CE(), InfoNCA(), KWayNCA(), PrefixCE()], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_confidently_wrong_responses_have_a_gradient(loss: Loss, size: float) -> None:
    _, gradient = mean_and_gradient(loss, torch.tensor([-size, size]), *PAIR)
    assert gradient[0] < -0.4
    assert gradient[1] > 0.4


@given(rewarded())
@settings(deadline=None)
def test_losses_on_responses_do_not_depend_on_row_order(data: Data) -> None:
    for loss in (CE(), KTO(), InfoNCA(), KWayNCA()):
        assert_close(loss(*shuffled(data)).sort().values, loss(*data).sort().values, rtol=0, atol=roundings(data[0])[0])


def test_ktos_zero_is_the_mean_of_mismatched_rewards_if_positive() -> None:
    drift = torch.tensor([1.0, 3.0], requires_grad=True)
    assert KTO().zero_point(drift) == 2.0
    assert not KTO().zero_point(drift).requires_grad
    assert KTO().zero_point(-drift) == 0.0
    assert CE().zero_point(drift) == 0.0


def test_only_kto_asks_for_mismatched_rewards() -> None:
    assert KTO.mismatched
    assert not any(loss.mismatched for loss in (CE, DPO, NCA, InfoNCA, KWayNCA, PrefixCE))


@given(rewarded())
@settings(deadline=None)
def test_one_right_and_one_wrong_response_make_info_nca_dpo_and_kway_nca_nca(data: Data) -> None:
    rewards = data[0][:2]
    rounding = roundings(rewards)[0]
    assert_close(InfoNCA()(rewards, *PAIR), DPO()(rewards, *PAIR), rtol=0, atol=rounding)
    assert_close(KWayNCA()(rewards, *PAIR), NCA()(rewards, *PAIR), rtol=0, atol=rounding)


def test_info_nca_ignores_a_shift_shared_by_a_problem() -> None:
    rewards, labels = torch.tensor([1.0, -2.0, 3.0, 0.5]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    group, shift = torch.tensor([0, 0, 1, 1]), torch.tensor([7.0, 7.0, -3.0, -3.0])
    assert_close(InfoNCA()(rewards + shift, labels, group), InfoNCA()(rewards, labels, group))


def test_the_kway_target_shares_all_among_right_responses() -> None:
    labels, group = torch.tensor([1.0, 0, 1, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 1, 2])
    assert_close(InfoNCA().target(labels, group), torch.tensor([0.5, 0, 0.5, 0.5, 0.5, 1]))


def test_a_single_response_is_compared_with_nothing() -> None:
    one = torch.tensor([3.0])
    assert InfoNCA()(one, torch.ones(1), torch.zeros(1, dtype=torch.long)) == 0
    assert KWayNCA()(-one, torch.ones(1), torch.zeros(1, dtype=torch.long)) > 2 * math.log(2)


@pytest.mark.parametrize("normalise", [True, False])
def test_prefix_ce_sees_every_response_token_per_token(normalise: bool) -> None:
    view = random_view(torch.randn(4, 12, generator=torch.Generator().manual_seed(1)))
    seen = PrefixCE(normalise=normalise).observe(view)
    expected = [
        (float(view.values[b, c]) / (c - 1 if normalise else 1), float(view.labels[b]), b)
        for b in range(4)
        for c in range(12)
        if view.in_response[b, c]  # from column 2 on
    ]
    rewards, labels, group = (list(column) for column in zip(*expected, strict=True))
    assert_close(seen.rewards, torch.tensor(rewards))
    assert seen.labels.tolist() == labels
    assert seen.group.tolist() == group


def test_prefix_ce_of_the_last_prefix_alone_is_ce_per_token() -> None:
    view = random_view(torch.randn(8, 12, generator=torch.Generator().manual_seed(2)))
    length = view.in_response.sum(1)
    expected = CE()(view.reward / length, view.labels, view.group)
    assert_close(terms_of(PrefixCE(margin=0, late=1e3), view), expected)


def test_late_weights_move_from_the_first_prefix_to_the_last() -> None:
    values, labels, group = torch.tensor([-8.0, 0.0, 8.0]), torch.ones(3), torch.zeros(3, dtype=torch.long)
    early, even, late = (float(PrefixCE(late=x)(values, labels, group)) for x in (-2.0, 0.0, 2.0))
    assert early > even > late


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KTO(desirable=-1), "desirable -1 is not a finite number"),
        (lambda: KTO(undesirable=math.nan), "undesirable nan is not a finite number"),
        (lambda: InfoNCA(alpha=0), "alpha 0 is not positive"),
        (lambda: PrefixCE(margin=-1), "margin -1 is not"),
        (lambda: PrefixCE(late=math.inf), "late inf is not finite"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: type[Loss], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
