"""Responses laid end to end in one row: no padding is computed, and attention stays inside each response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from lit_prm.batch import Batch

PACKED = "packed"  # the name of our attention among those of transformers
FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4")  # which read the same arguments

# a mask of four dimensions is passed on as it is: none is built, and ours reads none
_NO_MASK = torch.empty((1, 1, 0, 0), dtype=torch.bool)


def can_pack(model: Any) -> bool:
    """Whether the model's attention is told where a response ends when it runs several end to end."""
    return getattr(model.config, "_attn_implementation", None) in (PACKED, *FLASH)


def packed_states(base: Any, batch: Batch) -> Tensor:
    """Last hidden states of the batch's N tokens that are no padding, row after row; [N, H].

    Equal to those of padded rows up to rounding, gradients included.
    """
    length = batch.length.to(batch.ids.device)
    column = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    ends = torch.nn.functional.pad(length.cumsum(0), (1, 0)).int()
    longest = int(batch.length.max())
    flash = base.config._attn_implementation in FLASH
    states = base(
        input_ids=batch.ids[real(batch)].unsqueeze(0),
        position_ids=column.expand_as(batch.ids)[real(batch)].unsqueeze(0),
        attention_mask=None if flash else _NO_MASK.to(batch.ids.device),
        cu_seq_lens_q=ends, cu_seq_lens_k=ends, max_length_q=longest, max_length_k=longest,
        use_cache=False,
    ).last_hidden_state  # fmt: skip
    return cast(Tensor, states[0])


def real(batch: Batch) -> Tensor:
    """Mask of the tokens that are no padding; [B, T]."""
    column = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    return column < batch.length.to(batch.ids.device).unsqueeze(1)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cu_seq_lens_q: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each of the sequences that ``cu_seq_lens_q`` [B + 1] cuts the row into.

    [1, heads, N, D] -> [1, N, heads, D]. Without it this is the attention of transformers' ``sdpa``: the same model
    runs padded rows, caches and masks.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout,
            sliding_window=sliding_window, **others,
        )  # fmt: skip
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise ValueError("packed attention has neither soft caps nor sinks; use attention: sdpa or eager")
    kernel = _varlen if _has_varlen(query) and not dropout else _one_by_one
    return kernel(query, key, value, cu_seq_lens_q, scaling, dropout, sliding_window, others["max_length_q"]), None


def _has_varlen(query: Tensor) -> bool:
    return query.device.type == "cuda" and query.dtype in (torch.float16, torch.bfloat16)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: Tensor,
    scale: float | None,
    _: float,
    window: int | None,
    most: int,
) -> Tensor:
    """One kernel for all sequences, on CUDA in half precision."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [N, heads, D] each
    seen = (-1 if window is None else window - 1, 0)
    gqa = q.shape[1] != k.shape[1]
    found = varlen_attn(q, k, v, ends, ends, most, most, scale=scale, window_size=seen, enable_gqa=gqa)
    return cast(Tensor, found).unsqueeze(0)


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: Tensor,
    scale: float | None,
    drop: float,
    window: int | None,
    _: int,
) -> Tensor:
    """A kernel for each sequence: as fast on a CPU, and in every precision."""
    sizes = ends.diff().tolist()
    gqa = query.shape[1] != key.shape[1]
    # split, not slices, whose backward passes would each write a whole row
    parts = zip(*(x.split(sizes, dim=2) for x in (query, key, value)), strict=True)
    found = []
    for q, k, v in parts:
        mask = _window(q.shape[2], window, q.device) if window is not None and window < q.shape[2] else None
        found.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=drop, is_causal=mask is None, scale=scale, enable_gqa=gqa
            )
        )
    return torch.cat(found, dim=2).transpose(1, 2)


def _window(size: int, window: int, device: torch.device) -> Tensor:
    """What each token sees of the ``window`` last ones, itself among them; [size, size]."""
    at = torch.arange(size, device=device)
    back = at.unsqueeze(1) - at
    return (back >= 0) & (back < window)


@contextmanager
def windows_told() -> Iterator[list[int | None]]:
    """Inside, the windows of calls of packed attention: some models tell theirs to masks alone, which it reads not."""
    told: list[int | None] = []

    def noting(*args: Any, **options: Any) -> Any:
        told.append(options.get("sliding_window"))
        return packed_attention(*args, **options)

    AttentionInterface.register(PACKED, noting)
    try:
        yield told
    finally:
        AttentionInterface.register(PACKED, cast(Callable[..., Any], packed_attention))


AttentionInterface.register(PACKED, cast(Callable[..., Any], packed_attention))
AttentionMaskInterface.register(PACKED, sdpa_mask)  # for rows that are not packed
