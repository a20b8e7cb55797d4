"""Attention of bfloat16 on CPUs: torch's own values, and gradients at least as near to float64's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lit_prm.models import cpu_attention


def drawn(queries: int, keys: int, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
    """Queries of six heads, keys and values of two, and a gradient; the numbers are bfloat16's in every type."""
    generator = torch.Generator().manual_seed(queries + keys)
    shapes = ((6, queries), (2, keys), (2, keys), (6, queries))
    parts = [torch.randn(1, heads, n, 16, generator=generator).bfloat16().to(dtype) for heads, n in shapes]
    return *(x.requires_grad_() for x in parts[:3]), parts[3]


def seen(queries: int, keys: int, dtype: torch.dtype) -> Tensor | None:
    """None where torch's own mask of causal attention is this one."""
    return None if queries == keys else torch.full((queries, keys), -torch.inf, dtype=dtype).triu(keys - queries + 1)


def torchs(queries: int, keys: int, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, ...]]:
    query, key, value, gradient = drawn(queries, keys, dtype)
    mask = seen(queries, keys, dtype)
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
    return out.detach(), torch.autograd.grad(out, (query, key, value), gradient)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (40, 40), (130, 130), (40, 97), (1, 512)])
def test_values_are_torchs_and_gradients_nearer_to_the_truth(queries: int, keys: int) -> None:
    query, key, value, gradient = drawn(queries, keys)
    assert cpu_attention.pays(query, key, value, 0.0)
    out = cpu_attention.attention(query, key, value, seen(queries, keys, torch.bfloat16), None)
    found = torch.autograd.grad(out, (query, key, value), gradient)
    values, theirs = torchs(queries, keys, torch.bfloat16)
    _, true = torchs(queries, keys, torch.float64)
    assert torch.equal(out, values)
    far = [sum(float((a.double() - b).norm()) for a, b in zip(some, true, strict=True)) for some in (found, theirs)]
    assert far[0] <= far[1]
    assert far[0] <= 0.01 * sum(float(x.norm()) for x in true)


@pytest.mark.parametrize("given", ["float32", "no gradient", "dropout", "long", "empty", "narrow values"])
def test_it_is_left_to_torch_where_it_does_not_pay(given: str) -> None:
    dtype = torch.float32 if given == "float32" else torch.bfloat16
    parts = drawn(0 if given == "empty" else 4, 513 if given == "long" else 4, dtype)[:3]
    query, key, value = (x.detach() for x in parts) if given == "no gradient" else parts
    value = value[..., :8] if given == "narrow values" else value
    assert not cpu_attention.pays(query, key, value, 0.1 if given == "dropout" else 0.0)
