"""A model's configuration, and networks with its shape on tensors without data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils.hub import cached_file

from lit_prm.models.adapters import with_new_adapter
from lit_prm.models.language_model import may_be_on_hub

_CAUSAL = "sdpa_without_mask"  # transformers skips the mask of SDPA on real tensors, but not on fake ones
AttentionInterface.register(_CAUSAL, sdpa_attention_forward)
AttentionMaskInterface.register(_CAUSAL, lambda *_, **__: None)


class Adapter(NamedTuple):
    """A new LoRA adapter, as ``lit_prm.models.adapters.LoRAReward`` adds it; nothing else is trained."""

    rank: int
    targets: tuple[str, ...]  # names of modules; empty for all linear layers
    dropout: float
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Weights:
    """Numbers of weights of a model."""

    all: int
    trained: int
    largest: int  # in one tensor


def config_of(model: str, shape: str | None = None) -> tuple[Any, str]:
    """The transformers configuration of a model, and the place it was read from; nothing is downloaded.

    ``shape`` replaces the model's own: a name of ``models.yaml``, a folder, or a config.json.
    """
    name = shape or model
    file = Path(name).expanduser()
    file = file / "config.json" if file.is_dir() else file
    if file.is_file():
        return from_fields(_fields_of(file)), str(file)
    known = known_shapes()
    if name in known:
        return from_fields(known[name]), "lit_prm/commands/plan/models.yaml"
    if cached := may_be_on_hub(name) and cached_file(
        name, "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False
    ):
        return from_fields(_fields_of(Path(cached))), "the hub's cache"
    raise ValueError(
        f"{name} has no config.json here, and is not one of the known shapes: {', '.join(known)}. Give one of these or "
        "the path of a config.json with --shape"
    )


def _fields_of(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not a config.json ({error}). Give the file of a model, or its folder") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{file} is not a config.json: it holds a {type(fields).__name__}. Give the file of a model")
    return fields


def known_shapes() -> dict[str, dict[str, Any]]:
    """Fields of config.json of known models, by the model's name on the hub."""
    shapes: dict[str, dict[str, Any]] = yaml.safe_load((files("lit_prm.commands.plan") / "models.yaml").read_text())
    return shapes


def network(
    config: Any,
    layers: int,
    dtype: Any,
    *,
    checkpointing: bool = False,
    adapter: Adapter | None = None,
    attention: str | None = None,
) -> PreTrainedModel:
    """The model with ``layers`` layers, in train mode; call this under a ``FakeTensorMode``."""
    shape, attention = with_layers(config, layers), attention or _CAUSAL
    make = partial(cast(Any, AutoModelForCausalLM).from_config, shape, dtype=dtype, attn_implementation=attention)
    if adapter:
        with unset_fake_temporarily(), torch.device("meta"):  # peft moves weights; fake ones cannot be moved
            model = _adapted(make(), adapter)
        _make_fake(model)
    else:
        model = make()
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return cast(PreTrainedModel, model.train())


def _adapted(model: Any, adapter: Adapter) -> Any:
    targets = list(adapter.targets) if adapter.targets else None
    made = with_new_adapter(model, adapter.rank, 1.0, adapter.dropout, targets)
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.to(adapter.dtype)
    return made.get_base_model()


def _make_fake(model: Any) -> None:
    """Replace the tensors of the meta device by fake CPU tensors of the same sizes; tied weights stay tied."""
    made: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            made.setdefault(p, torch.nn.Parameter(torch.empty(p.shape, dtype=p.dtype), p.requires_grad))
            setattr(module, name, made[p])
        for name, b in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty(b.shape, dtype=b.dtype)


def with_layers(config: Any, layers: int) -> Any:
    """The configuration of the model with another number of layers; raise ValueError if its layers differ in kind."""
    fields = config.to_dict()
    if len(kinds := set(fields.pop("layer_types", None) or ["full_attention"])) > 1:
        raise ValueError(
            f"the layers of {config.model_type} are of {len(kinds)} kinds ({', '.join(sorted(kinds))}), so one layer "
            "cannot stand for all. Give the --shape of a model whose layers are alike"
        )
    return from_fields(fields | {"num_hidden_layers": layers})


def weights(config: Any, *, word_head: bool = True, adapter: Adapter | None = None) -> Weights:
    """Numbers of weights of the whole model; without ``word_head`` an untied output matrix is not trained.

    Counted on networks of one and of two layers, since every further layer adds the same.
    """
    one, two = (_weights(config, layers, word_head, adapter) for layers in (1, 2))
    more = config.num_hidden_layers - 1
    return replace(
        one, all=one.all + more * (two.all - one.all), trained=one.trained + more * (two.trained - one.trained)
    )


def _weights(config: Any, layers: int, word_head: bool, adapter: Adapter | None) -> Weights:
    with FakeTensorMode():
        model = network(config, layers, torch.float32, adapter=adapter)
        sizes = [p.numel() for p in model.parameters()]
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        head = 0 if word_head or config.tie_word_embeddings else cast(Any, model).get_output_embeddings().weight.numel()
    return Weights(sum(sizes), trained - head, max(sizes))


def from_fields(fields: dict[str, Any]) -> Any:
    """The configuration that a config.json with these fields describes."""
    kind = fields.get("model_type")
    if not kind:
        raise ValueError("the config.json has no model_type. Give the config.json of a causal language model")
    return AutoConfig.for_model(**fields)
