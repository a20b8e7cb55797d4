"""What a scorer is made of, as JSON: reward model, reference, tokenizer, step rule and the facts its scores hang on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

SPEC_FILE = "reward.json"  # in an exported folder
Named = Mapping[str, Any]  # {"class_path": ..., "init_args": {...}}, as configs name a class

_PATHS = ("policy", "model", "path")  # init_args that name a folder or file, or a model of the hub


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """A reward model as its classes are named in configs, with all that decides what it says of a response.

    ``weights`` is the checkpoint that holds the trained ``reward_model.*``, None where the named policy holds them
    itself. ``loss`` is for the record; ``reference_hash`` is what the reference's weights must have as content
    hash, None where nobody knows.
    """

    reward_model: Named
    tokenizer: str
    steps: Named
    reference: Named | None = None
    max_length: int = 2048
    prompt_template: str = "{prompt}"
    aggregate: str = "min"
    loss: str | None = None
    weights: str | None = None
    reference_hash: str | None = None

    @property
    def beta(self) -> float | None:
        """What scales log-ratios to rewards; None for a head."""
        return _arguments(self.reward_model).get("beta")

    def to_json(self) -> dict[str, Any]:
        """Plain dicts; ``from_json`` gives the spec back."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> RewardSpec:
        """The spec of a dict; a missing or unknown key is refused by its name."""
        known = {f.name for f in fields(cls)}
        missing, unknown = {"reward_model", "tokenizer", "steps"} - found.keys(), found.keys() - known
        if missing or unknown:
            raise ValueError(
                f"a reward's description has {_listed('unknown keys', unknown) or _listed('not the keys', missing)}; "
                f"known are {', '.join(sorted(known))}; export the model again with python -m lit_prm export"
            )
        return cls(**found)

    def resolved(self, folder: Path) -> RewardSpec:
        """Relative paths that exist in ``folder`` made whole; all other names stay, which are the hub's or absolute."""
        return self._with_paths(lambda name: str(folder / name) if (folder / name).exists() else name)

    def with_arguments(self, **given: Any) -> RewardSpec:
        """Other ``init_args`` of the reward model, e.g. beta; None leaves the spec's own."""
        new = {name: value for name, value in given.items() if value is not None}
        return replace(self, reward_model=named(self.reward_model["class_path"], _arguments(self.reward_model) | new))

    def _with_paths(self, whole: Callable[[str], str]) -> RewardSpec:
        return replace(
            self,
            reward_model=_with_paths(self.reward_model, whole),
            reference=None if self.reference is None else _with_paths(self.reference, whole),
            tokenizer=whole(self.tokenizer),
            weights=None if self.weights is None else whole(self.weights),
        )


def named(class_path: str, init_args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A class with its arguments, as configs and JSON hold it."""
    return {"class_path": class_path, "init_args": dict(init_args or {})}


def read_spec(file: Path) -> RewardSpec:
    """The spec of a ``reward.json``, its relative paths resolved against the folder it lies in."""
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); export the model again with python -m lit_prm export") from None
    return RewardSpec.from_json(found).resolved(file.parent)


def spec_of_run(source: str | Path) -> RewardSpec:
    """The spec of a run's folder or of one of its checkpoints, from the configuration it was trained with.

    Relative paths are those of the folder that the run was started in: this one, or the nearest above the run that
    has them. A run that trains nothing (``max_epochs`` 0) has no checkpoint and scores with the model it starts from.
    """
    folder, weights = _run_of(Path(source))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if weights is None and config["trainer"].get("max_epochs") != 0:
        raise ValueError(f"{folder} has no checkpoints/last.ckpt: nothing was trained yet; run its experiment first")
    model, data = config["model"], config["data"]
    spec = RewardSpec(
        reward_model=_as_named(model["reward_model"]),
        reference=_as_named(model["reference"]) if model.get("reference") else None,
        tokenizer=data["tokenizer"],
        steps=_as_named(data.get("steps") or "lit_prm.data.steps.BlankLine"),
        max_length=data.get("max_length", 2048),
        prompt_template=data.get("prompt_template", "{prompt}"),
        aggregate=_primary_aggregate(config["trainer"]),
        loss=_as_named(model["loss"])["class_path"].rpartition(".")[2],
        weights=None if weights is None else str(weights),
    )
    return spec._with_paths(lambda name: _where_started(name, folder))


def _where_started(name: str, run: Path) -> str:
    """The name if it is there from here or is nowhere above the run, else where it is."""
    if Path(name).exists():
        return name
    return next((str(above / name) for above in run.resolve().parents if (above / name).exists()), name)


def is_run(source: str | Path) -> bool:
    """Whether it is the folder of a training run, or a checkpoint."""
    path = Path(source)
    return path.suffix == ".ckpt" or (path / "config.yaml").is_file()


def _run_of(path: Path) -> tuple[Path, Path | None]:
    """The run's folder, and the checkpoint to score with: the last one of a folder."""
    if path.suffix != ".ckpt":
        last = path / "checkpoints" / "last.ckpt"
        return path, last if last.exists() else None
    folder = next((p for p in path.resolve().parents[:2] if (p / "config.yaml").is_file()), None)
    if folder is None or not path.exists():
        raise ValueError(
            f"{path}: {'no config.yaml beside it or one folder up' if path.exists() else 'no such checkpoint'}; "
            "give a run's folder, or a checkpoint that lies in its checkpoints/"
        )
    return folder, path


def _primary_aggregate(trainer: Mapping[str, Any]) -> str:
    """The first aggregate of the run's BestOfN callback, which its tables are about."""
    for callback in trainer.get("callbacks") or ():
        if str(callback["class_path"]).endswith("BestOfN"):
            return str((callback.get("init_args") or {}).get("aggregates", ["min"])[0])
    return "min"


def _as_named(found: Any) -> dict[str, Any]:
    if isinstance(found, str):
        return named(found)
    return named(found["class_path"], found.get("init_args"))


def _arguments(part: Named) -> dict[str, Any]:
    return dict(part.get("init_args") or {})


def _with_paths(part: Named, whole: Callable[[str], str]) -> dict[str, Any]:
    """A class with the paths in its arguments made whole, also in those of the classes among them."""

    def value(name: str, found: Any) -> Any:
        if isinstance(found, Mapping) and "class_path" in found:
            return _with_paths(found, whole)
        return whole(found) if name in _PATHS and isinstance(found, str) else found

    return named(part["class_path"], {name: value(name, found) for name, found in _arguments(part).items()})


def _listed(what: str, names: set[str]) -> str:
    return f"{what} {', '.join(sorted(names))}" if names else ""
