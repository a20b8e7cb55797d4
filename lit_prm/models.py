"""Loading language models and reading the log-probs of response tokens off them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file, extract_commit_hash
from transformers.utils.logging import disable_progress_bar

from lit_prm.batch import Batch, Encoded, collate
from lit_prm.shared_prompts import shared_states

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


def hidden_states(model: nn.Module, batch: Batch) -> Tensor:
    """Last hidden state of every token; where rows share prompts only those that responses are read from.

    [B, T, H].
    """
    lm = cast(Any, model)
    if batch.shares_prompts:
        return shared_states(lm.base_model, batch)
    return cast(Tensor, lm.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state)


def token_logps(model: nn.Module, batch: Batch, chunk: int = 4096) -> Tensor:
    """Log pi(y_t | x, y_<t) of every response token, in float32; [B, T], 0 outside responses.

    The head and the softmax see response positions only, ``chunk`` of them at a time: the largest
    temporary is [chunk, V], never [B, T, V]. A chunk's logits are recomputed in the backward pass.
    """
    lm = cast(Any, model)
    hidden = hidden_states(model, batch)
    target = batch.in_response[:, 1:]  # position t-1 predicts token t
    states, ids = hidden[:, :-1][target], batch.ids[:, 1:][target]  # [R, H], [R]
    logps = torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)
    logps[:, 1:][target] = position_logps(lm.get_output_embeddings(), states, ids, chunk)
    return logps


def position_logps(head: nn.Module, states: Tensor, ids: Tensor, chunk: int = 4096) -> Tensor:
    """Log-softmax of the head's logits at ``ids``, ``chunk`` positions at a time; [R, H], [R] -> [R]."""
    pieces = [
        _chunk_logps(head, s, i, more_than_one=len(states) > chunk)
        for s, i in zip(torch.split(states, chunk), torch.split(ids, chunk), strict=True)
    ]
    return torch.cat(pieces)


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
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    attention = getattr(model.config, "_attn_implementation", "sdpa")
    window = getattr(model.config, "sliding_window", None)
    if kinds != {"full_attention"} or window:
        what = f"a window of {window} tokens" if window else f"layers of {', '.join(sorted(kinds))}"
        return f"it has {what}, so its cache may not hold a whole prompt"
    if attention not in ("sdpa", "eager"):
        return f"its attention is {attention}, which takes no mask of four dimensions"
    rows = _sample(cast(Any, model).get_input_embeddings().num_embeddings)
    whole, shared = (_moved(collate(rows, share_prompts=share), model.device) for share in (False, True))
    try:
        far = (token_logps(model, whole) - token_logps(model, shared)).abs().max().item()
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        return f"its cache is not a standard one ({(str(error).splitlines() or [type(error).__name__])[0][:120]})"
    most = 1e-3 if model.dtype == torch.float32 else 0.3
    return None if far <= most else f"log-probs of a sample come out up to {far:.3g} different, more than {most:g}"


def _sample(vocabulary: int) -> list[Encoded]:
    """Responses of three problems, of many lengths, with seeded ids."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(vocabulary, size=n) for n in (3, 17, 9)]
    sizes = ((0, 5), (0, 1), (1, 12), (1, 2), (2, 30))
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


def weights_hash(name: str) -> str:
    """Content hash of a model's configuration and weights: of a folder's files, of the hub the commit.

    A checkpoint or any other single file has the hash of its bytes.
    """
    path = Path(name).expanduser()
    if not path.exists():
        return _commit(name)
    files = sorted(p for p in path.glob("*") if p.name in _CONFIGS or p.suffix in _WEIGHTS) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


_CONFIGS = ("config.json", "adapter_config.json")
_WEIGHTS = {".safetensors", ".bin"}


def _commit(name: str) -> str:
    """The commit of a hub model, as its files in the cache tell."""
    for file in _CONFIGS:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if found and (commit := extract_commit_hash(found, None)):
            return str(commit)
    raise ValueError(
        f"the hub says no commit of {name}, so that its scores could not be told from those of another revision; "
        "download it and give the folder"
    )


def weights_of(checkpoint: str) -> dict[str, Any]:
    """The module's weights in a checkpoint of a run; a missing one is refused."""
    if Path(checkpoint).is_dir():
        raise ValueError(
            f"{checkpoint} is the folder of a sharded strategy, whose parts no single process can start from; "
            "consolidate it first: python zero_to_fp32.py, which lies in it"
        )
    if not Path(checkpoint).is_file():
        raise ValueError(
            f"there is no checkpoint {checkpoint} to start from; run the experiment whose second stage this is first "
            "(make exp does so when the experiment file names it under `after`)"
        )
    found: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    return found


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
