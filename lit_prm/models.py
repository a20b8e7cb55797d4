"""Loading language models and reading the log-probs of response tokens off them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from lit_prm.batch import Batch

Dtype = str  # "float32", "bfloat16" or "auto", as configs write it


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or a hub model."""
    _refuse_missing_folder(name)
    return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(name))


def load_model(name: str, dtype: Dtype = "float32") -> PreTrainedModel:
    """A causal language model of a local folder or the hub, in eval mode, checked to be one we can read.

    Response log-probs come from the head applied to hidden states of response positions alone. A model
    that transforms its logits after the head (soft-capping, scaling) would be misread: such a model is refused.
    """
    _refuse_missing_folder(name)
    cast(Any, disable_progress_bar)()  # of shards: half a second each
    model = cast(Any, AutoModelForCausalLM.from_pretrained(name, dtype=_torch_dtype(dtype)))
    model.eval()
    check_readable(model)
    return cast(PreTrainedModel, model)


def token_logps(model: nn.Module, batch: Batch, chunk: int = 4096) -> Tensor:
    """Log pi(y_t | x, y_<t) of every response token, in float32; [B, T], 0 outside responses.

    The head and the softmax see response positions only, ``chunk`` of them at a time: the largest
    temporary is [chunk, V], never [B, T, V]. A chunk's logits are recomputed in the backward pass.
    """
    lm = cast(Any, model)
    hidden = lm.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state  # [B, T, H]
    target = batch.in_response[:, 1:]  # position t-1 predicts token t
    states, ids = hidden[:, :-1][target], batch.ids[:, 1:][target]  # [R, H], [R]
    pieces = [
        _chunk_logps(lm.get_output_embeddings(), s, i, more_than_one=len(states) > chunk)
        for s, i in zip(torch.split(states, chunk), torch.split(ids, chunk), strict=True)
    ]
    logps = torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)
    logps[:, 1:][target] = torch.cat(pieces)
    return logps


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


def _chunk_logps(head: nn.Module, states: Tensor, ids: Tensor, *, more_than_one: bool) -> Tensor:
    if more_than_one and states.requires_grad:
        return cast(Tensor, checkpoint(_head_logps, head, states, ids, use_reentrant=False))
    return _head_logps(head, states, ids)


def _head_logps(head: nn.Module, states: Tensor, ids: Tensor) -> Tensor:
    """Log-softmax of the head's logits at ``ids``, in float32; [R, H], [R] -> [R]."""
    return -cross_entropy(head(states).float(), ids, reduction="none")


def _torch_dtype(name: Dtype) -> torch.dtype | str:
    known = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ValueError(f"dtype {name!r} is not one of {', '.join(known)}")
    return cast("torch.dtype | str", known[name])


def _refuse_missing_folder(name: str) -> None:
    """A local path that does not exist would be taken for a hub name, with a puzzling network error."""
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not Path(name).expanduser().is_dir():
        raise ValueError(
            f"model folder {name!r} does not exist; give a folder with config.json or a hub name owner/model"
        )
