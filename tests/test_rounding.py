"""The bounds that tests allow float32 are wide enough for it and far too narrow for a mistake."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lit_prm.data.batch import collate
from tests.conftest import small_llama
from tests.rounding import float32_bound, largest, network_bound
from tests.test_packing import ROWS, TOKENS, VOCABULARY


def logps_and_gradient(seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of all tokens of every response, and of their sum; float64 where asked, which lit_prm never computes in."""
    network: Any = small_llama(seed, VOCABULARY)
    model, batch = network.to(dtype), collate(ROWS)
    seen = torch.arange(batch.ids.shape[1]) < batch.length.unsqueeze(1)
    logits = model(batch.ids, attention_mask=seen.long()).logits[:, :-1]
    logps = logits.log_softmax(-1).gather(2, batch.ids[:, 1:, None].long()).squeeze(2) * batch.in_response[:, 1:]
    logps.sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return logps.detach().double(), gradient.double()


@pytest.mark.parametrize("seed", range(3))
def test_a_network_stays_within_half_its_bound_of_float64(seed: int) -> None:
    """Two results, each so near to the truth, are within the bound of each other."""
    (logps, gradient), (true, slope) = (logps_and_gradient(seed, dtype) for dtype in (torch.float32, torch.float64))
    assert largest(logps - true) <= network_bound(len(true[0]), largest(true)) / 2
    assert largest(gradient - slope) <= network_bound(TOKENS, largest(slope), gradient=True) / 2
    assert (gradient - slope).norm() <= network_bound(TOKENS, 1.0, gradient=True) / 2 * slope.norm()


def test_a_token_beside_is_a_hundred_bounds_away() -> None:
    logps, _ = logps_and_gradient(0, torch.float64)
    beside = (logps[:, 1:] - logps[:, :-1]).abs()[(logps[:, 1:] != 0) & (logps[:, :-1] != 0)]
    assert beside.median() > 100 * network_bound(len(logps[0]), largest(logps))


def test_a_long_sum_stays_within_its_bound_and_a_missing_term_does_not() -> None:
    terms = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    one_by_one = terms.cumsum(0)[-1]
    assert largest(one_by_one - terms.double().sum()) <= float32_bound(len(terms), float(one_by_one)) / 2
    assert float(terms.median()) > float32_bound(len(terms), float(one_by_one))
