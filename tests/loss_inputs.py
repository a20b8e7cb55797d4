"""Drawn inputs of losses, and batches as the module shows them to a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lit_prm.losses import Loss
from lit_prm.losses.base import View
from tests.rounding import float32_bound, largest

Data = tuple[Tensor, Tensor, Tensor]  # rewards, labels and group; [N] each


@st.composite
def rewarded(draw: st.DrawFn) -> Data:
    """Rewards, labels and problems of up to 12 responses, with at least one right-wrong pair."""
    n = draw(st.integers(2, 12))
    rewards = draw(st.lists(st.floats(-20, 20, width=32), min_size=n, max_size=n))
    labels = [1.0, 0.0, *draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n - 2, max_size=n - 2))]
    group = [0, 0, *draw(st.lists(st.integers(0, 3), min_size=n - 2, max_size=n - 2))]
    return torch.tensor(rewards), torch.tensor(labels), torch.tensor(group)


def shuffled(data: Data, seed: int = 1) -> Data:
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(seed))
    return data[0][order], data[1][order], data[2][order]


def mean_and_gradient(loss: Loss, rewards: Tensor, labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    rewards = rewards.clone().requires_grad_()
    value = loss(rewards, labels, group).mean()
    (gradient,) = torch.autograd.grad(value, rewards)
    return value.detach(), gradient


def assert_equals_reference(loss: Loss, data: Data, restated: Callable[[Tensor], Tensor]) -> None:
    """Value and gradient of the mean term equal those of a function of the rewards in float64."""
    value, gradient = mean_and_gradient(loss, *data)
    in_value, in_gradient = roundings(data[0])
    slow = data[0].double().requires_grad_()
    expected = restated(slow)
    assert_close(value.double(), expected, rtol=0, atol=in_value)
    assert_close(gradient.double(), torch.autograd.grad(expected, slow)[0], rtol=0, atol=in_gradient)


def roundings(rewards: Tensor) -> tuple[float, float]:
    """Of a mean of terms, and of its gradient.

    A term is a log-sigmoid or a log-softmax: ten operations on differences of two rewards, beyond a margin of up to 5.
    It is summed over up to so many pairs of right and wrong; sigmoids, twice, are what is summed in a gradient.
    """
    terms = 10 + len(rewards) ** 2 // 4
    return float32_bound(terms, 2 * largest(rewards) + 5), float32_bound(terms, 2.0)


def random_view(values: Tensor, seed: int = 0) -> View:
    """A batch of B responses to B/4 problems, right and wrong by turns, whose values [B, T] are given.

    A response's tokens are all but the first two and some last columns; steps end at every third column.
    """
    rows, width = values.shape
    draw = torch.Generator().manual_seed(seed)
    length = torch.randint(5, width + 1, (rows,), generator=draw)
    columns = torch.arange(width).expand(rows, width)
    ends = torch.arange(2, width, 3)
    valid = ends < length.unsqueeze(1)
    at_ends = values[:, ends] * valid
    labels = (torch.rand(rows, len(ends), generator=draw) < 0.5).float()
    labels[torch.rand(labels.shape, generator=draw) < 0.2] = torch.nan
    labels[:, 0] = torch.arange(rows) % 2
    return View(
        reward=values.gather(1, (length - 1).unsqueeze(1)).squeeze(1),
        values=values,
        in_response=(columns >= 2) & (columns < length.unsqueeze(1)),
        step_rewards=at_ends.diff(dim=1, prepend=torch.zeros(rows, 1)) * valid,
        step_values=at_ends,
        valid=valid,
        labels=(torch.arange(rows) % 2).float(),
        step_labels=labels,
        group=torch.arange(rows) // 4,
    )


def rows_of(view: View, rows: Sequence[int] | Tensor) -> View:
    return View(*(column[torch.as_tensor(rows)] for column in view))


def terms_of(loss: Loss, view: View) -> Tensor:
    return loss(*loss.observe(view))
