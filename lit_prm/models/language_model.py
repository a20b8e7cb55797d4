"""Loading language models and reading the log-probs of response tokens off them."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file, extract_commit_hash
from transformers.utils.logging import disable_progress_bar

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.models.packed_attention import PACKED, can_pack, is_packed, packed_states, windows_told
from lit_prm.models.shared_prompts import shared_states
from lit_prm.models.zero_weights import LATEST, as_many_on_every_rank, consolidated, is_cut, standing, whole_in_turn

Dtype = str  # "float32", "bfloat16" or "auto", as configs write it
Attention = str  # "auto", "packed", or one of transformers: "sdpa", "eager", "flash_attention_2", ...

CHUNK = 4096  # positions whose logits are in memory at a time

_log = logging.getLogger(__name__)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or a hub model."""
    _refuse_missing_folder(name)
    return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(name))


def load_model(name: str, dtype: Dtype = "float32", attention: Attention | None = None) -> PreTrainedModel:
    """A causal language model of a local folder or the hub, in eval mode, checked to be one we can read.

    Response log-probs come from the head applied to hidden states of response positions alone. A model
    that transforms its logits after the head (soft-capping, scaling) would be misread: such a model is refused.
    ``attention`` is one of transformers' or ours, None the model's own choice; with "auto" it is ours, which packs
    responses, unless a sample shows that the model cannot be run so, which is then told.
    """
    _refuse_missing_folder(name)
    cast(Any, disable_progress_bar)()  # of shards: half a second each
    given = None if attention == "auto" else attention
    with _clear_attention_error(given):
        options = {"dtype": _torch_dtype(dtype), "attn_implementation": given}
        model = cast(Any, AutoModelForCausalLM.from_pretrained(name, **options))
    model.eval()
    with whole_in_turn(model):
        check_readable(model)
        if attention == "auto":
            pack(model)
    return cast(PreTrainedModel, model)


@contextmanager
def _clear_attention_error(attention: Attention | None) -> Iterator[None]:
    """What transformers says of an attention that it does not know or that is not installed, as one of ours."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if attention is None or not re.search("attn|attention", str(error), re.IGNORECASE):
            raise
        raise ValueError(
            f"attention {attention!r} cannot be used: {_first_line(error)} Take auto, packed, sdpa or eager, or "
            "install what it needs"
        ) from error


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
        return _first_line(error)


def _layers_with_a_window(config: Any) -> int:
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return int(config.num_hidden_layers) if getattr(config, "sliding_window", None) else 0
    return sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)


def states_at(model: nn.Module, batch: Batch, where: Tensor) -> Tensor:
    """Last hidden states of the tokens at the R places of the mask ``where``, row after row; [B, T] -> [R, H].

    How they are run is what batch and model allow: prompts once for all rows that have them, else responses end to
    end without padding, else padded rows. ``where`` has places in responses and at the last token of prompts only.
    """
    lm = cast(Any, model)
    _refuse_unlike_positions(lm.config, batch)
    if can_pack(lm):
        packed, place = packed_states(lm.base_model, batch)
        return packed[place[where]]
    if batch.shares_prompts:
        if window := _window_of(lm.config):
            raise ValueError(f"{type(model).__name__} cannot share prompts: {window}; set data.share_prompts to false")
        return shared_states(lm.base_model, batch)[where]
    states = lm.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
    return cast(Tensor, states[where])


def _refuse_unlike_positions(config: Any, batch: Batch) -> None:
    """Some rotary frequencies depend on the longest sequence of a call, or of all calls: so would rewards of others."""
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
            f"a response has {longest} tokens, and rotary positions of type {kind} change beyond {most} for all that "
            f"are run with it or after it; set data.max_length to at most {most}"
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
    count = as_many_on_every_rank(max(-(-len(states) // chunk), 1), head)  # the last ones of some ranks are empty
    pieces = [
        _chunk_logps(head, states[i : i + chunk], ids[i : i + chunk], more_than_one=count > 1)
        for i in range(0, count * chunk, chunk)
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
    if not is_packed(model) and (reason := _why_no_cache(model)):
        return reason
    whole, shared = (_moved(collate(_sample(model), share_prompts=share), model.device) for share in (False, True))
    try:
        with in_eval_mode(model):
            return _why_different(
                model, _alone(model, whole), token_logps(model, shared), lambda: token_logps(model, whole)
            )
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        return _first_line(error)


def _why_no_cache(model: PreTrainedModel) -> str | None:
    """Why responses cannot be run behind kept keys and values of their prompts, as models that are not packed do."""
    attention = getattr(model.config, "_attn_implementation", "sdpa")
    if window := _window_of(model.config):
        return window
    if attention not in ("sdpa", "eager"):
        return f"its attention is {attention}, which takes no mask of four dimensions"
    if getattr(model, "is_activation_checkpointing", False):
        return "gradient checkpointing keeps no keys of prompts"
    if any(map(is_cut, model.parameters())):
        return "under ZeRO-3 all processes must call it equally often, and they have unequal parts"
    return None


def _window_of(config: Any) -> str | None:
    """Why the model's cache may not hold a whole prompt."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if kinds == {"full_attention"} and not window:
        return None
    what = f"a window of {window} tokens" if window else f"layers of {', '.join(sorted(kinds))}"
    return f"it has {what}, so its cache may not hold a whole prompt"


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


def _first_line(error: Exception) -> str:
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


def weights_hash(name: str) -> str:
    """Content hash of a model's configuration and weights: of a folder's files, of the hub the commit.

    A checkpoint or any other single file has the hash of its bytes, a sharded checkpoint that of its parts.
    """
    path = Path(name)
    if not path.exists():
        return commit_of(name)
    if path.is_file():
        files = [path]
    elif (path / LATEST).is_file():
        files = sorted(standing(path).glob("*.pt"))
    else:
        files = sorted(p for p in path.glob("*") if p.name in _CONFIGS or p.suffix in _WEIGHTS)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


_CONFIGS = ("config.json", "adapter_config.json")
_WEIGHTS = {".safetensors", ".bin"}


def commit_of(name: str) -> str:
    """The commit of a hub model, as its files in the cache tell."""
    for file in _CONFIGS:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if found and (commit := extract_commit_hash(found, None)):
            return str(commit)
    raise ValueError(
        f"the hub says no commit of {name}, so that what it said could not be told from what another revision says; "
        "download it and give the folder"
    )


def weights_of(checkpoint: str) -> dict[str, Any]:
    """The module's weights in a checkpoint of a run, a file or a sharded one's folder; a missing one is refused."""
    if Path(checkpoint).is_dir():
        return consolidated(checkpoint)
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


def may_be_on_hub(name: str) -> bool:
    """Whether it is an owner/model, or one of the few old models without owner that the cache already has."""
    slashes = -1 if name.startswith((".", "/", "~")) else name.count("/")
    return slashes == 1 or (slashes == 0 and isinstance(try_to_load_from_cache(name, "config.json"), str))


def _refuse_missing_folder(name: str) -> None:
    """A local path that does not exist would be taken for a hub name, with a puzzling network error."""
    if name.startswith("~"):
        raise ValueError(
            f"model folder {name!r} begins with ~, which only shells expand; write {Path(name).expanduser()}"
        )
    if not Path(name).is_dir() and not may_be_on_hub(name):
        raise ValueError(
            f"model folder {name!r} does not exist; give a folder with config.json or a hub name owner/model"
        )
