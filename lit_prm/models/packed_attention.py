"""The attention of packed rows, registered with transformers as "packed": each response attends to itself alone.

A response whose prompt is shared attends to that prompt as well. ``packed_rows`` lays the rows out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from lit_prm.models import cpu_attention
from lit_prm.models.packed_rows import PACKED, with_those_behind


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
    """Causal attention within each of the segments that ``cu_seq_lens_q`` [S + 1] cuts the row into.

    [1, heads, N, D] -> [1, N, heads, D]; further arguments as in ``packed_rows.attention_arguments``. Without
    ``cu_seq_lens_q`` this is transformers' ``sdpa``, so the same model also runs padded rows, caches and masks.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout,
            sliding_window=sliding_window, **others,
        )  # fmt: skip
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise ValueError("Packed attention has neither soft caps nor sinks. Set attention to sdpa or eager.")
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # rotary positions come in float32; other kernels would cast as well
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [N, heads, D] each
    if _has_varlen(query) and not dropout:
        return _varlen(q, k, v, cu_seq_lens_q, scaling, sliding_window, others).unsqueeze(0), None
    sizes = cu_seq_lens_q.diff().tolist()
    behind = others["behind"].tolist() if "behind" in others else range(len(sizes))
    return _one_by_one(q, k, v, sizes, behind, scaling, dropout, sliding_window).unsqueeze(0), None


def _has_varlen(query: Tensor) -> bool:
    return query.device.type == "cuda" and query.dtype in (torch.float16, torch.bfloat16)


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, scale: float | None, window: int | None, arguments: dict[str, Any]
) -> Tensor:
    """One kernel for all segments, on CUDA in half precision. A segment's last query attends up to its last key."""
    from torch.nn.attention.varlen import varlen_attn

    if "key_at" in arguments:
        k, v = k[arguments["key_at"]], v[arguments["key_at"]]
    most = arguments["max_length_q"], arguments["max_length_k"]
    seen, gqa = (-1 if window is None else window - 1, 0), q.shape[1] != k.shape[1]
    ends_seen = arguments["cu_seq_lens_k"]
    return cast(Tensor, varlen_attn(q, k, v, ends, ends_seen, *most, scale=scale, window_size=seen, enable_gqa=gqa))


def _one_by_one(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sizes: list[int],
    behind: Sequence[int],
    scale: float | None,
    dropout: float,
    window: int | None,
) -> Tensor:
    """One kernel call per segment: as fast on a CPU as one call for all, and in every precision."""
    # split() instead of slices: the backward pass of each slice would write a whole row
    queries, keys, values = (x.split(sizes) for x in (q, k, v))
    outputs = []
    for parts in zip(queries, with_those_behind(keys, behind), with_those_behind(values, behind), strict=True):
        query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in parts)  # [1, heads, n, D]
        own, seen = query.shape[2], key.shape[2]
        whole = seen == own and (window is None or window >= own)
        mask = None if whole else _corner(-(-seen // 256) * 256, window, q.dtype, q.device)[-own:, -seen:]
        if cpu_attention.pays(query, key, value, dropout):
            out = cpu_attention.attention(query, key, value, mask, scale)
        else:
            out = scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=whole, scale=scale,
                enable_gqa=query.shape[1] != key.shape[1],
            )  # fmt: skip
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


@lru_cache(maxsize=2)
def _corner(size: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The additive mask of ``size`` tokens: 0 for the last ``window`` tokens up to each one, else -inf; [size, size].

    A smaller segment uses its last rows and columns. All layers keep this one tensor for their backward pass.
    """
    with torch.inference_mode(False):  # validation may call first, and training then needs a normal tensor
        at = torch.arange(size, device=device)
        back = at.unsqueeze(1) - at
        hidden = (back < 0) | (back >= (window or size))
        return torch.zeros((size, size), dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)


@contextmanager
def recorded_windows() -> Iterator[list[int | None]]:
    """Yields a list that collects the ``sliding_window`` of every call of packed attention inside the block.

    Some models give their window to masks alone, which packed attention does not read.
    """
    windows: list[int | None] = []

    def recording(*args: Any, **options: Any) -> Any:
        windows.append(options.get("sliding_window"))
        return packed_attention(*args, **options)

    AttentionInterface.register(PACKED, recording)
    try:
        yield windows
    finally:
        AttentionInterface.register(PACKED, _eager)


# Lists of segments have another length in each batch, which torch.compile cannot trace: it compiles the code around.
_eager = cast(Callable[..., Any], torch.compiler.disable(packed_attention))
AttentionInterface.register(PACKED, _eager)
AttentionMaskInterface.register(PACKED, sdpa_mask)  # for rows that are not packed
