"""What a scorer consists of, as JSON: reward model, reference, tokenizer, step rule and what its scores depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from lit_prm.evaluation.aggregates import refuse_unknown_aggregates
from lit_prm.models.reward_model import RewardModel
from lit_prm.storage.class_paths import class_of, refuse_foreign_classes
from lit_prm.storage.identity import Identity
from lit_prm.storage.schemas import fitting, parsed

SPEC_FILE = "reward.json"  # in an exported folder
_REMEDY = "export the model again with python -m lit_prm export"


def named(class_path: str, init_args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A class with its arguments, as configs and JSON write it."""
    return {"class_path": class_path, "init_args": dict(init_args or {})}


def class_by_name(part: Mapping[str, Any]) -> dict[str, Any]:
    """A class as JSON or YAML names it, with its arguments. Raises ValueError for a mapping that names none."""
    path, arguments = part.get("class_path"), part.get("init_args") or {}
    if not (isinstance(path, str) and isinstance(arguments, Mapping)):
        raise ValueError('a class is {"class_path": TEXT, "init_args": {...}}')
    return named(path, arguments)


def _known_aggregate(name: str) -> str:
    refuse_unknown_aggregates([name])
    return name


Named = Annotated[Mapping[str, Any], AfterValidator(class_by_name)]
"""A class as configs name it: {"class_path": ..., "init_args": {...}}."""
KnownAggregate = Annotated[str, AfterValidator(_known_aggregate)]
Length = Annotated[int, Field(gt=0, lt=2**31)]

_PATHS = ("policy", "model", "path")  # init_args that name a folder or file, or a model of the hub


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """Describes a reward model and everything else that decides its rewards. Nothing is loaded.

    ``weights`` is the checkpoint that holds the trained ``reward_model.*``, None if the named policy holds the trained
    weights itself. ``loss`` is for the record. ``identity`` are the hashes that base, reference and tokenizer must have
    (``lit_prm.storage.identity``), as far as they are known.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    reward_model: Named
    tokenizer: str
    steps: Named
    reference: Named | None = None
    max_length: Length | None = 2048  # None: as many tokens as the models take
    prompt_template: str = "{prompt}"
    aggregate: KnownAggregate = "min"
    loss: str | None = None
    weights: str | None = None
    identity: Identity = field(default_factory=dict)

    @property
    def reward_class(self) -> type[RewardModel]:
        """The class of the reward model, imported but not instantiated."""
        return class_of(str(self.reward_model["class_path"]), RewardModel)

    @property
    def beta(self) -> float | None:
        """The factor from log-ratios to rewards; None for a value head."""
        return arguments_of(self.reward_model).get("beta")

    def to_json(self) -> dict[str, Any]:
        """Plain dicts; ``from_json`` restores the spec."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: object, place: object = "the description of a reward model") -> RewardSpec:
        """The spec of a dict that was read at ``place``. Raises ValueError for missing, unknown or unfit values.

        Exports of version 0.1 have ``reference_hash`` in place of ``identity``.
        """
        if isinstance(content, dict) and (reference := content.get("reference_hash")):
            content = {"identity": {"reference": reference}} | content
            content.pop("reference_hash")
        return fitting(content, cls, place, _REMEDY)

    def resolved(self, folder: Path) -> RewardSpec:
        """Joins relative paths that exist in ``folder`` to it. Other names stay: hub names and absolute paths."""
        return self.with_paths(lambda name: str(folder / name) if (folder / name).exists() else name)

    def with_paths(self, resolve: Callable[[str], str]) -> RewardSpec:
        """Applies ``resolve`` to every folder, file or hub name in the spec."""
        return replace(
            self,
            reward_model=_with_paths(self.reward_model, resolve),
            reference=None if self.reference is None else _with_paths(self.reference, resolve),
            tokenizer=resolve(self.tokenizer),
            weights=None if self.weights is None else resolve(self.weights),
        )


def arguments_of(part: Named) -> dict[str, Any]:
    """A copy of the ``init_args``; empty if there are none."""
    return dict(part.get("init_args") or {})


def read_spec(file: Path) -> RewardSpec:
    """The spec in a ``reward.json``. Relative paths are resolved against the folder of the file.

    Raises ValueError if it names weights outside safetensors files, or a class of a module that is not imported.
    """
    content = parsed(file, _REMEDY)
    refuse_foreign_classes(content, file)
    spec = RewardSpec.from_json(content, file).resolved(file.parent)
    if spec.weights and not spec.weights.endswith(".safetensors"):
        raise ValueError(
            f"{file} names the weights {spec.weights}. An export holds weights in safetensors files alone. Export the "
            "model again with python -m lit_prm export."
        )
    return spec


def _with_paths(part: Named, resolve: Callable[[str], str]) -> dict[str, Any]:
    """A class whose path arguments are resolved, and those of the classes among its arguments."""

    def value(name: str, argument: Any) -> Any:
        if isinstance(argument, Mapping) and "class_path" in argument:
            return _with_paths(argument, resolve)
        return resolve(argument) if name in _PATHS and isinstance(argument, str) else argument

    return named(part["class_path"], {name: value(name, argument) for name, argument in arguments_of(part).items()})
