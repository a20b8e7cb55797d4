"""A model of any size without weights: its configuration, and networks of it on fake tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


class Adapter(NamedTuple):
    """A new LoRA adapter, as ``lit_prm.models.adapters.LoRAReward`` puts it on: what alone is trained."""

    rank: int
    targets: tuple[str, ...]  # none for all linear layers
    dropout: float
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Weights:
    """How many there are."""

    all: int
    trained: int
    largest: int  # of one tensor


def config_of(model: str, shape: str | None = None) -> tuple[Any, str]:
    """The transformers configuration of a model and where it was found; nothing is downloaded.

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
    cached = name.count("/") == 1 and not name.startswith((".", "/"))
    found = cached and cached_file(
        name, "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False
    )
    if found:
        return from_fields(json.loads(Path(str(found)).read_text())), "the hub's cache"
    raise ValueError(
        f"no config.json of {name} is at hand, and the shapes known are {', '.join(known)}; give one of these or a "
        "path of a config.json by --shape"
    )


def _fields_of(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is no config.json ({error}); give the file of a model, or its folder") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is no config.json: it holds a {type(found).__name__}; give the file of a model")
    return found


def known_shapes() -> dict[str, dict[str, Any]]:
    """Fields of config.json by the model's name on the hub."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((files("lit_prm.commands.plan") / "models.yaml").read_text())
    return found


def network(
    config: Any,
    layers: int,
    dtype: Any,
    *,
    checkpointing: bool = False,
    adapter: Adapter | None = None,
    attention: str | None = None,
) -> PreTrainedModel:
    """The model with so many layers, in train mode; to be called under a ``FakeTensorMode``."""
    _attend_without_mask()
    shape, attention = with_layers(config, layers), attention or _CAUSAL
    if adapter:
        with unset_fake_temporarily(), torch.device("meta"):  # peft moves weights, which fake ones cannot
            model = _adapted(
                AutoModelForCausalLM.from_config(shape, dtype=dtype, attn_implementation=attention), adapter
            )
        _make_fake(model)
    else:
        model = cast(Any, AutoModelForCausalLM.from_config(shape, dtype=dtype, attn_implementation=attention))
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
    """Tensors of the same sizes on the CPU in place of those of the meta device; what is tied stays so."""
    made: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            made.setdefault(p, torch.nn.Parameter(torch.empty(p.shape, dtype=p.dtype), p.requires_grad))
            setattr(module, name, made[p])
        for name, b in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty(b.shape, dtype=b.dtype)


_CAUSAL = "sdpa_without_mask"


def _attend_without_mask() -> None:
    """SDPA as it runs on real tensors: for fake ones transformers would make the mask that it leaves out there."""
    AttentionInterface.register(_CAUSAL, sdpa_attention_forward)
    AttentionMaskInterface.register(_CAUSAL, lambda *_, **__: None)


def with_layers(config: Any, layers: int) -> Any:
    """The configuration of the same model, less deep; a model whose layers differ in kind is refused."""
    fields = config.to_dict()
    if len(kinds := set(fields.pop("layer_types", None) or ["full_attention"])) > 1:
        raise ValueError(
            f"the layers of {config.model_type} are of {len(kinds)} kinds ({', '.join(sorted(kinds))}), so one cannot "
            "stand for all; give the --shape of a model whose layers are alike"
        )
    return from_fields(fields | {"num_hidden_layers": layers})


def weights(config: Any, *, word_head: bool = True, adapter: Adapter | None = None) -> Weights:
    """Weights of the whole model; without ``word_head`` an output matrix of its own is not trained.

    Counted on networks of one and of two layers, since every further layer adds the same.
    """
    one, two = (_weights(config, layers, word_head, adapter) for layers in (1, 2))
    more = config.num_hidden_layers - 1
    return Weights(
        all=one.all + more * (two.all - one.all),
        trained=one.trained + more * (two.trained - one.trained),
        largest=one.largest,
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
        raise ValueError("a config.json without model_type says no model's shape; give that of a causal language model")
    return AutoConfig.for_model(**fields)
