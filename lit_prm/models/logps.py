"""Log-probs of response tokens, computed in chunks, so that no logits tensor [B, T, V] is ever in memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from lit_prm.data.batch import Batch
from lit_prm.models.packed_rows import can_pack, packed_states
from lit_prm.models.shared_prompts import shared_states
from lit_prm.models.zero_weights import as_many_on_every_rank

CHUNK = 4096  # positions whose logits are in memory at a time


def states_at(model: nn.Module, batch: Batch, where: Tensor) -> Tensor:
    """Last hidden states at the R True places of the mask ``where``, row after row; [B, T] -> [R, H].

    Packed attention runs responses end to end without padding, and shared prompts once. A model without it runs
    shared prompts once by its cache, else padded rows. ``where`` is True only in responses and at the last tokens of
    prompts.
    """
    lm = cast(Any, model)
    _refuse_unlike_positions(lm.config, batch)
    if can_pack(lm):
        packed, place = packed_states(lm.base_model, batch)
        return packed[place[where]]
    if batch.shares_prompts:
        if window := window_of(lm.config):
            raise ValueError(f"{type(model).__name__} cannot share prompts: {window}. Set data.share_prompts to false.")
        return shared_states(lm.base_model, batch)[where]
    states = lm.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
    return cast(Tensor, states[where])


def _refuse_unlike_positions(config: Any, batch: Batch) -> None:
    """Raise ValueError if rotary frequencies would depend on the longest row of this call or of all calls."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind, most = rope.get("rope_type"), config.max_position_embeddings if rope else 0
    if kind == "longrope":
        most = rope.get("original_max_position_embeddings") or most
        alone = len(batch.length) == 1 and not batch.shares_prompts
    elif kind == "dynamic":
        alone = False
    else:
        return
    if not alone and (longest := int(batch.length.max())) > most:
        raise ValueError(
            f"A response has {longest} tokens. Beyond {most}, rotary positions of type {kind} change for all responses "
            f"that are run with it or after it. Set data.max_length to at most {most}."
        )


def token_logps(model: nn.Module, batch: Batch, chunk: int = CHUNK) -> Tensor:
    """Log pi(y_t | x, y_<t) of every response token, in float32; [B, T], 0 outside responses.

    The head and the softmax see response positions only, ``chunk`` of them at a time: the largest
    temporary is [chunk, V], never [B, T, V]. A chunk's logits are recomputed in the backward pass.
    """
    target = batch.in_response[:, 1:]  # position t-1 predicts token t
    states = states_at(model, batch, torch.nn.functional.pad(target, (0, 1)))  # [R, H]
    logps = torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)
    head, ids = cast(Any, model).get_output_embeddings(), batch.ids[:, 1:][target]
    logps[:, 1:][target] = position_logps(head, states, ids, chunk)
    return logps


def position_logps(head: nn.Module, states: Tensor, ids: Tensor, chunk: int = CHUNK) -> Tensor:
    """Log-softmax of the head's logits at ``ids``, ``chunk`` positions at a time; [R, H], [R] -> [R]."""
    count = as_many_on_every_rank(max(-(-len(states) // chunk), 1), head)  # some ranks' last chunks are empty
    pieces = []
    for i in range(0, count * chunk, chunk):
        part = head, states[i : i + chunk], ids[i : i + chunk]
        recomputed = count > 1 and part[1].requires_grad
        logps = checkpoint(_head_logps, *part, use_reentrant=False) if recomputed else _head_logps(*part)
        pieces.append(cast(Tensor, logps))
    return torch.cat(pieces)


def window_of(config: Any) -> str | None:
    """The reason why the model's cache may not hold a whole prompt; None if it does."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if kinds == {"full_attention"} and not window:
        return None
    what = f"a window of {window} tokens" if window else f"layers of {', '.join(sorted(kinds))}"
    return f"it has {what}, so its cache may not hold a whole prompt"


def _head_logps(head: nn.Module, states: Tensor, ids: Tensor) -> Tensor:
    """Log-softmax of the head's logits at ``ids``, in float32; [R, H], [R] -> [R]."""
    return -cross_entropy(head(states).float(), ids, reduction="none")
