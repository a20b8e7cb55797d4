"""Attention of bfloat16 whose backward pass computes in float32, where CPUs are faster so."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

# Keys up to which it pays: the backward pass of 130 keys is 2.6 times as fast, of 1024 0.7 times (torch 2.13).
MOST_KEYS = 512

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def pays(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> bool:
    """Whether `attention` takes these and is the faster one."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or dropout:
        return False
    sizes_fit = query.shape[2] > 0 and key.shape[2] <= MOST_KEYS and query.shape[3] == value.shape[3]
    return sizes_fit and (query.requires_grad or key.requires_grad or value.requires_grad)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """What torch's own returns, bit for bit, with truer gradients; ``mask`` is added to scores, None means causal.

    [1, heads, queries, D], [1, heads of keys, keys, D] twice, [queries, keys] -> [1, heads, queries, D].
    """
    return cast(Tensor, _Float32Backward.apply(query, key, value, mask, scale))  # type: ignore[no-untyped-call]


class _Float32Backward(torch.autograd.Function):
    """The kernels that torch's own attention calls on CPUs, the second on casts."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Any:
        out, normaliser = _forward(query, key, value, 0.0, mask is None, attn_mask=mask, scale=scale)
        ctx.save_for_backward(query, key, value, out, normaliser, mask)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        *saved, mask = ctx.saved_tensors
        casts = (x.float() for x in (gradient, *saved))
        seen = None if mask is None else mask.float()
        found = _backward(*casts, 0.0, mask is None, attn_mask=seen, scale=ctx.scale)
        return *(x.to(gradient.dtype) for x in found), None, None
