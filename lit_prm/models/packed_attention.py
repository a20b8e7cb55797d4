"""Responses laid end to end in one row: no padding is computed, shared prompts once, attention stays inside each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from lit_prm.data.batch import Batch
from lit_prm.models import cpu_attention

PACKED = "packed"  # the name of our attention among those of transformers
FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4")  # which read the same arguments

# a mask of four dimensions is passed on as it is: none is built, and ours reads none
_NO_MASK = torch.empty((1, 1, 0, 0), dtype=torch.bool)


def can_pack(model: Any) -> bool:
    """Whether the model's attention is told where a response ends when it runs several end to end."""
    return is_packed(model) or getattr(model.config, "_attn_implementation", None) in FLASH


def is_packed(model: Any) -> bool:
    """Whether it is our attention, which is told as well which prompt a response stands behind."""
    return getattr(model.config, "_attn_implementation", None) == PACKED


class PackedRow(NamedTuple):
    """How the tokens of a batch lie in one row of N: S segments, each a response with its prompt, or one of the two."""

    token: Tensor  # [N] place in the flattened batch, [B * T]
    place: Tensor  # [B, T] place in the row of every token, 0 of padding
    sizes: list[int]  # [S] tokens of each segment
    behind: list[int]  # [S] the segment that each sees before its own; itself if none


def laid(batch: Batch) -> PackedRow:
    """Rows end to end; where prompts are shared, all prompts and then all responses."""
    lengths, prompts, width = batch.length.tolist(), batch.prompt_length.tolist(), batch.ids.shape[1]
    parts, behind = [(r, 0, n) for r, n in enumerate(lengths)], list(range(len(lengths)))  # row, begin, end
    owner = torch.as_tensor(batch.owner).tolist()
    if owner:
        first = [owner.index(p) for p in range(max(owner) + 1)]
        parts = [(r, 0, prompts[r]) for r in first] + [(r, prompts[r], n) for r, n in enumerate(lengths)]
        behind = [*range(len(first)), *owner]
    token = torch.cat([torch.arange(r * width + begin, r * width + end) for r, begin, end in parts])
    place = torch.zeros(batch.ids.shape, dtype=torch.long)
    place.view(-1)[token] = torch.arange(len(token))
    for row, p in enumerate(owner):
        place[row, : prompts[row]] = place[first[p], : prompts[row]]
    on = batch.ids.device
    return PackedRow(token.to(on), place.to(on), [end - begin for _, begin, end in parts], behind)


def packed_states(base: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Last hidden states of the N tokens that are computed, and which of them is whose; [N, H], [B, T].

    Equal to those of padded rows up to rounding, gradients included.
    """
    flash = not is_packed(base)
    if flash and batch.shares_prompts:
        raise ValueError(f"{base.config._attn_implementation} cannot share prompts; take attention: packed")
    row, device = laid(batch), batch.ids.device
    states = base(
        input_ids=batch.ids.view(-1)[row.token].unsqueeze(0),
        position_ids=(row.token % batch.ids.shape[1]).unsqueeze(0),
        attention_mask=None if flash else _NO_MASK.to(device),
        use_cache=False, **told_of(row, device),
    ).last_hidden_state  # fmt: skip
    return states[0], row.place


def told_of(row: PackedRow, device: torch.device) -> dict[str, Any]:
    """What attention reads of a row, where segments end among queries and among keys, under the names of flash kernels.

    Where segments see others: ``key_at`` [keys], the keys of all segments one after the other, and ``behind`` [S].
    """
    seen = [n if b == s else row.sizes[b] + n for s, (n, b) in enumerate(zip(row.sizes, row.behind, strict=True))]
    ends, ends_seen = (torch.tensor([0, *accumulate(n)], dtype=torch.int32, device=device) for n in (row.sizes, seen))
    told = {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends_seen,
        "max_length_q": max(row.sizes),
        "max_length_k": max(seen),
    }
    if seen == row.sizes:
        return told
    at = torch.arange(sum(row.sizes)).split(row.sizes)
    key_at = torch.cat(_with_those_behind(at, row.behind))
    return {**told, "key_at": key_at.to(device), "behind": torch.tensor(row.behind)}


def _with_those_behind(parts: Sequence[Tensor], behind: Sequence[int]) -> list[Tensor]:
    """What every segment sees: its own part after that of the segment behind it; of [n, ...] each."""
    pairs = enumerate(zip(parts, behind, strict=True))
    return [part if b == s else torch.cat([parts[b], part]) for s, (part, b) in pairs]


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
    """Causal attention within each of the segments that ``cu_seq_lens_q`` [S + 1] cuts the row into.

    [1, heads, N, D] -> [1, N, heads, D]; the rest is as `told_of` tells. Without it this is the attention of
    transformers' ``sdpa``: the same model runs padded rows, caches and masks.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout,
            sliding_window=sliding_window, **others,
        )  # fmt: skip
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise ValueError("packed attention has neither soft caps nor sinks; use attention: sdpa or eager")
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # under which rotary positions come in float32, and kernels would cast anyway
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
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, scale: float | None, window: int | None, told: dict[str, Any]
) -> Tensor:
    """One kernel for all segments, on CUDA in half precision; the last query of each sees up to its last key."""
    from torch.nn.attention.varlen import varlen_attn

    if "key_at" in told:
        k, v = k[told["key_at"]], v[told["key_at"]]
    most = told["max_length_q"], told["max_length_k"]
    seen, gqa = (-1 if window is None else window - 1, 0), q.shape[1] != k.shape[1]
    found = varlen_attn(q, k, v, ends, told["cu_seq_lens_k"], *most, scale=scale, window_size=seen, enable_gqa=gqa)
    return cast(Tensor, found)


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
    """A kernel for each segment: as fast on a CPU, and in every precision."""
    # split, not slices, whose backward passes would each write a whole row
    queries, keys, values = (x.split(sizes) for x in (q, k, v))
    found = []
    for parts in zip(queries, _with_those_behind(keys, behind), _with_those_behind(values, behind), strict=True):
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
        found.append(out[0].transpose(0, 1))
    return torch.cat(found)


@lru_cache(maxsize=2)
def _corner(size: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to the scores of ``size`` tokens, 0 for the ``window`` last ones up to themselves; [size, size].

    Its last rows and columns serve segments that see so many; all layers keep this one for their backward pass.
    """
    with torch.inference_mode(False):  # a validation may ask first, and training then needs it
        at = torch.arange(size, device=device)
        back = at.unsqueeze(1) - at
        hidden = (back < 0) | (back >= (window or size))
        return torch.zeros((size, size), dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)


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
        AttentionInterface.register(PACKED, _eager)


# lists of segments, of another length in each batch, are nothing for torch.compile: it compiles what lies around
_eager = cast(Callable[..., Any], torch.compiler.disable(packed_attention))
AttentionInterface.register(PACKED, _eager)
AttentionMaskInterface.register(PACKED, sdpa_mask)  # for rows that are not packed
