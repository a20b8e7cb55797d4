"""Runs a small sample through a loaded model to see which fast paths give its own log-probs.

Three questions: are its logits its head on its last hidden state, can it run packed rows, can it share prompts?
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.models.logps import token_logps, window_of
from lit_prm.models.packed_attention import recorded_windows
from lit_prm.models.packed_rows import PACKED, can_pack, is_packed
from lit_prm.models.zero_weights import is_cut

_log = logging.getLogger(__name__)


def pack(model: PreTrainedModel) -> None:
    """Switch the model to packed attention if a sample shows that it can use it; else log why it pads responses."""
    before = model.config._attn_implementation
    if reason := why_not_packed(model):
        _log.warning("%s runs padded responses: %s", type(model).__name__, reason)
        cast(Any, model).set_attn_implementation(before)


@torch.no_grad()
def why_not_packed(model: PreTrainedModel) -> str | None:
    """The reason why the model cannot run packed rows; None if it can, and the model then uses packed attention."""
    rows, before = moved(collate(_sample(model)), model.device), model.config._attn_implementation
    alone = _alone(model, rows)

    def padded() -> Tensor:
        cast(Any, model).set_attn_implementation(before)
        try:
            return token_logps(model, rows)
        finally:
            cast(Any, model).set_attn_implementation(PACKED)

    try:
        cast(Any, model).set_attn_implementation(PACKED)
        if not can_pack(model):
            return "its attention cannot be exchanged"
        with recorded_windows() as windows:
            packed = token_logps(model, rows)
        if sum(window is not None for window in windows) < (layers := _layers_with_a_window(model.config)):
            return f"{layers} of its layers have a window that their attention does not receive"
        return _why_different(model, alone, packed, padded)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        return first_line(error)


def _layers_with_a_window(config: Any) -> int:
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return int(config.num_hidden_layers) if getattr(config, "sliding_window", None) else 0
    return sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)


def check_readable(model: PreTrainedModel) -> None:
    """Raise ValueError unless the model's logits are its head applied to its last hidden state."""
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits
        states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        ours = cast(Any, model).get_output_embeddings()(states)
    if not torch.allclose(own.float(), ours.float(), rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the output head (largest difference "
            f"{(own - ours).abs().max().item():.3g}), which response-only log-probs would miss. Use another model."
        )


@torch.no_grad()
def why_not_shared(model: PreTrainedModel) -> str | None:
    """The reason why the model cannot share prompts; None if a small sample shows that it can."""
    if not is_packed(model) and (reason := _why_no_cache(model)):
        return reason
    whole, shared = (moved(collate(_sample(model), share_prompts=share), model.device) for share in (False, True))
    try:
        with in_eval_mode(model):
            return _why_different(
                model, _alone(model, whole), token_logps(model, shared), lambda: token_logps(model, whole)
            )
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        return first_line(error)


def _why_no_cache(model: PreTrainedModel) -> str | None:
    """The reason why a model without packed attention cannot run responses on a cache of their prompts; else None."""
    attention = getattr(model.config, "_attn_implementation", "sdpa")
    if window := window_of(model.config):
        return window
    if attention not in ("sdpa", "eager"):
        return f"its attention is {attention}, which takes no mask of four dimensions"
    if getattr(model, "is_activation_checkpointing", False):
        return "gradient checkpointing keeps no keys of prompts"
    if any(map(is_cut, model.parameters())):
        return "under ZeRO-3 all processes must call it equally often, and they have unequal parts"
    return None


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode; afterwards every module has its earlier mode again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _alone(model: nn.Module, rows: Batch) -> Tensor:
    """Log-probs of each response run alone, with which all other ways are compared; [B, T]."""
    out = torch.zeros(rows.ids.shape, dtype=torch.float32, device=rows.ids.device)
    for i, n in enumerate(rows.length.tolist()):
        row = rows.keep([i])
        out[i, :n] = token_logps(model, row._replace(ids=row.ids[:, :n], step=row.step[:, :n]))[0]
    return out


def _why_different(model: PreTrainedModel, alone: Tensor, fast: Tensor, usual: Callable[[], Tensor]) -> str | None:
    """The difference as a text if it is larger than rounding, else None.

    In float32 the largest difference counts. In half precision single differences depend on the model, so the root
    mean square counts, and it may be twice that of the usual way to run several responses.
    """
    if model.dtype == torch.float32:
        error, tolerance = (fast - alone).abs().max().item(), 1e-3
    else:
        error, tolerance = _rms(fast, alone), 0.3
        tolerance = tolerance if error <= tolerance else max(tolerance, 2 * _rms(usual(), alone))
    return None if error <= tolerance else f"log-probs of a sample differ by {error:.3g}, more than {tolerance:.3g}"


def _rms(one: Tensor, other: Tensor) -> float:
    """Root mean square of the differences at response tokens."""
    return float((one - other)[other != 0].square().mean().sqrt())


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 120 characters; the error's class if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _sample(model: PreTrainedModel) -> list[Encoded]:
    """Responses of three problems, of many lengths, with seeded ids."""
    rng = np.random.default_rng(0)
    vocabulary = cast(Any, model).get_input_embeddings().num_embeddings
    prompts = [rng.integers(vocabulary, size=n) for n in (3, 9, 5)]
    sizes = ((0, 4), (0, 1), (1, 8), (1, 2), (2, 12))  # few, so that a start costs less than a second
    return [
        Encoded(
            ids=np.concatenate([prompts[p], rng.integers(vocabulary, size=n)]).astype(np.int32),
            prompt_length=len(prompts[p]), step=np.zeros(n, dtype=np.int32), label=0.0, group=p, row=row,
        )
        for row, (p, n) in enumerate(sizes)
    ]  # fmt: skip


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch with its ids and step indices on ``device``."""
    return batch._replace(ids=batch.ids.to(device), step=batch.step.to(device))
