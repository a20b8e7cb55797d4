"""Responses laid end to end in one row, so that no padding is computed: where each token goes, what attention needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_prm.data.batch import Batch

PACKED = "packed"  # the name of our attention among those of transformers
FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4")  # these read the same arguments

# A mask of four dimensions is passed on by transformers as it is: none is built, and packed attention reads none.
_NO_MASK = torch.empty((1, 1, 0, 0), dtype=torch.bool)


def can_pack(model: Any) -> bool:
    """True if the model's attention knows the borders of responses that lie end to end in one row."""
    return is_packed(model) or getattr(model.config, "_attn_implementation", None) in FLASH


def is_packed(model: Any) -> bool:
    """True if the model uses our attention, which also knows the prompt that each response follows."""
    return getattr(model.config, "_attn_implementation", None) == PACKED


class PackedRow(NamedTuple):
    """The tokens of a batch as one row of N, in S segments: a response with its prompt, or one of the two alone."""

    token: Tensor  # [N] index in the flattened batch, [B * T]
    place: Tensor  # [B, T] index in the row of every token; 0 for padding
    sizes: list[int]  # [S] tokens of each segment
    behind: list[int]  # [S] the segment that each one attends to before its own; itself if none


def packed_row(batch: Batch) -> PackedRow:
    """Rows end to end; if the batch shares prompts, first all prompts and then all responses."""
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
    device = batch.ids.device
    return PackedRow(token.to(device), place.to(device), [end - begin for _, begin, end in parts], behind)


def packed_states(base: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Last hidden states of the N packed tokens, and the index of each batch position among them; [N, H], [B, T].

    Equal to those of padded rows up to rounding, gradients included.
    """
    flash = not is_packed(base)
    if flash and batch.shares_prompts:
        raise ValueError(f"{base.config._attn_implementation} cannot share prompts. Set attention to packed.")
    row, device = packed_row(batch), batch.ids.device
    states = base(
        input_ids=batch.ids.view(-1)[row.token].unsqueeze(0),
        position_ids=(row.token % batch.ids.shape[1]).unsqueeze(0),
        attention_mask=None if flash else _NO_MASK.to(device),
        use_cache=False, **attention_arguments(row, device),
    ).last_hidden_state  # fmt: skip
    return states[0], row.place


def attention_arguments(row: PackedRow, device: torch.device) -> dict[str, Any]:
    """What attention needs to know of a row, under the names of the flash kernels: where segments end.

    If segments attend to others, also ``key_at`` [keys], the keys of all segments one after the other, and ``behind``
    [S].
    """
    seen = [n if b == s else row.sizes[b] + n for s, (n, b) in enumerate(zip(row.sizes, row.behind, strict=True))]
    ends, ends_seen = (torch.tensor([0, *accumulate(n)], dtype=torch.int32, device=device) for n in (row.sizes, seen))
    arguments = {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends_seen,
        "max_length_q": max(row.sizes),
        "max_length_k": max(seen),
    }
    if seen == row.sizes:
        return arguments
    at = torch.arange(sum(row.sizes)).split(row.sizes)
    key_at = torch.cat(with_those_behind(at, row.behind))
    return {**arguments, "key_at": key_at.to(device), "behind": torch.tensor(row.behind)}


def with_those_behind(parts: Sequence[Tensor], behind: Sequence[int]) -> list[Tensor]:
    """What every segment attends to: its own part, after that of the segment behind it; of [n, ...] each."""
    pairs = enumerate(zip(parts, behind, strict=True))
    return [part if b == s else torch.cat([parts[b], part]) for s, (part, b) in pairs]


def real(batch: Batch) -> Tensor:
    """Mask of the tokens that are not padding; [B, T]."""
    column = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    return column < batch.length.to(batch.ids.device).unsqueeze(1)
