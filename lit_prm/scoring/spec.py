"""What a scorer consists of, as JSON: reward model, reference, tokenizer, step rule and what its scores depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lit_prm.models.reward_model import RewardModel
from lit_prm.storage.class_paths import class_of, refuse_foreign_classes
from lit_prm.storage.identity import Identity

SPEC_FILE = "reward.json"  # in an exported folder
Named = Mapping[str, Any]  # {"class_path": ..., "init_args": {...}}, as configs name a class

_PATHS = ("policy", "model", "path")  # init_args that name a folder or file, or a model of the hub


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """Describes a reward model and everything else that decides its rewards. Nothing is loaded.

    ``weights`` is the checkpoint that holds the trained ``reward_model.*``, None if the named policy holds the trained
    weights itself. ``loss`` is for the record. ``identity`` are the hashes that base, reference and tokenizer must have
    (``lit_prm.storage.identity``), as far as they are known.
    """

    reward_model: Named
    tokenizer: str
    steps: Named
    reference: Named | None = None
    max_length: int | None = 2048  # None: as many tokens as the models take
    prompt_template: str = "{prompt}"
    aggregate: str = "min"
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
    def from_json(cls, content: Mapping[str, Any]) -> RewardSpec:
        """The spec of a dict. Raises ValueError, with the keys, if keys are missing or unknown.

        Exports of version 0.1 have ``reference_hash`` in place of ``identity``.
        """
        content = dict(content)
        if reference := content.pop("reference_hash", None):
            content.setdefault("identity", {"reference": reference})
        known = {f.name for f in fields(cls)}
        missing, unknown = {"reward_model", "tokenizer", "steps"} - content.keys(), content.keys() - known
        if missing or unknown:
            problem = f"unknown keys {_listed(unknown)}" if unknown else f"no {_listed(missing)}"
            raise ValueError(
                f"The description of a reward model has {problem}. The keys are {_listed(known)}. Export the model "
                "again with python -m lit_prm export."
            )
        return cls(**content)

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


def named(class_path: str, init_args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A class with its arguments, as configs and JSON write it."""
    return {"class_path": class_path, "init_args": dict(init_args or {})}


def arguments_of(part: Named) -> dict[str, Any]:
    """A copy of the ``init_args``; empty if there are none."""
    return dict(part.get("init_args") or {})


def read_spec(file: Path) -> RewardSpec:
    """The spec in a ``reward.json``. Relative paths are resolved against the folder of the file.

    Raises ValueError if it names weights outside safetensors files, or a class of a module that is not imported.
    """
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file} is not valid JSON ({error}). Export the model again with python -m lit_prm export."
        ) from None
    refuse_foreign_classes(content, file)
    spec = RewardSpec.from_json(content).resolved(file.parent)
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


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
