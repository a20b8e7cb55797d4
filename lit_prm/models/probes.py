"""Probes that decide whether a model may run packed rows or shared prompts."""

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
from lit_prm.models.packed_attention import PACKED, can_pack, is_packed, windows_told
from lit_prm.models.zero_weights import is_cut

_log = logging.getLogger(__name__)


def pack(model: PreTrainedModel) -> None:
    """Let the model run responses end to end if a sample shows that it can; else say why it pads them."""
    before = model.config._attn_implementation
    if reason := why_not_packed(model):
        _log.warning("%s runs padded responses: %s", type(model).__name__, reason)
        cast(Any, model).set_attn_implementation(before)


@torch.no_grad()
def why_not_packed(model: PreTrainedModel) -> str | None:
    """Why responses cannot be run end to end, None where a sample shows that they can; the model then does so."""
    rows, before = _moved(collate(_sample(model)), model.device), model.config._attn_implementation
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
        with windows_told() as told:
            packed = token_logps(model, rows)
        if sum(window is not None for window in told) < (layers := _layers_with_a_window(model.config)):
            return f"{layers} of its layers have a window that its attention is not told"
        return _why_different(model, alone, packed, padded)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        return first_line(error)


def _layers_with_a_window(config: Any) -> int:
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return int(config.num_hidden_layers) if getattr(config, "sliding_window", None) else 0
    return sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)


def check_readable(model: PreTrainedModel) -> None:
    """The model's own logits are its head on its last hidden state; anything else is refused with a reason."""
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits
        ours = cast(Any, model).get_output_embeddings()(
            model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        )
    if not torch.allclose(own.float(), ours.float(), rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the output head (largest difference "
            f"{(own - ours).abs().max().item():.3g}), which response-only log-probs would miss; use another model"
        )


@torch.no_grad()
def why_not_shared(model: PreTrainedModel) -> str | None:
    """Why prompts cannot be run once for all their responses, None where a small sample shows that they can."""
    if not is_packed(model) and (reason := _why_no_cache(model)):
        return reason
    whole, shared = (_moved(collate(_sample(model), share_prompts=share), model.device) for share in (False, True))
    try:
        with in_eval_mode(model):
            return _why_different(
                model, _alone(model, whole), token_logps(model, shared), lambda: token_logps(model, whole)
            )
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        return first_line(error)


def _why_no_cache(model: PreTrainedModel) -> str | None:
    """Why responses cannot be run behind kept keys and values of their prompts, as models that are not packed do."""
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
    """Without dropout inside, the mode of every module as before behind it."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _alone(model: nn.Module, rows: Batch) -> Tensor:
    """Log-probs of each response by itself, which all other ways to run them are to find; [B, T]."""
    out = torch.zeros(rows.ids.shape, dtype=torch.float32, device=rows.ids.device)
    for i, n in enumerate(rows.length.tolist()):
        row = rows.keep([i])
        out[i, :n] = token_logps(model, row._replace(ids=row.ids[:, :n], step=row.step[:, :n]))[0]
    return out


def _why_different(model: PreTrainedModel, alone: Tensor, found: Tensor, usual: Callable[[], Tensor]) -> str | None:
    """What is said of a model whose log-probs of a sample come out different by more than rounding.

    In float32 the largest difference counts. In half precision single ones depend on the model: there the root mean
    square does, and it may be twice that of the usual way to run several responses.
    """
    if model.dtype == torch.float32:
        far, most = (found - alone).abs().max().item(), 1e-3
    else:
        far, most = _apart(found, alone), 0.3
        most = most if far <= most else max(most, 2 * _apart(usual(), alone))
    return None if far <= most else f"log-probs of a sample come out {far:.3g} different, more than {most:.3g}"


def _apart(one: Tensor, other: Tensor) -> float:
    """Root mean square of the differences at response tokens."""
    return float((one - other)[other != 0].square().mean().sqrt())


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _sample(model: PreTrainedModel) -> list[Encoded]:
    """Responses of three problems, of many lengths, with seeded ids."""
    rng = np.random.default_rng(0)
    vocabulary = cast(Any, model).get_input_embeddings().num_embeddings
    prompts = [rng.integers(vocabulary, size=n) for n in (3, 9, 5)]
    sizes = ((0, 4), (0, 1), (1, 8), (1, 2), (2, 12))  # few: a start is to cost no second
    return [
        Encoded(
            ids=np.concatenate([prompts[p], rng.integers(vocabulary, size=n)]).astype(np.int32),
            prompt_length=len(prompts[p]), step=np.zeros(n, dtype=np.int32), label=0.0, group=p, row=row,
        )
        for row, (p, n) in enumerate(sizes)
    ]  # fmt: skip


def _moved(batch: Batch, device: torch.device) -> Batch:
    """The batch with what models compute with on ``device``."""
    return batch._replace(ids=batch.ids.to(device), step=batch.step.to(device))
