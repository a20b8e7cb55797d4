"""The spec of a training run or of one of its checkpoints, read from the run's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from lit_prm.models.weights import ADAPTER_FILE
from lit_prm.models.zero_weights import content_of
from lit_prm.scoring.spec import SPEC_FILE, Length, Named, RewardSpec, arguments_of, named
from lit_prm.storage.class_paths import refuse_foreign_classes
from lit_prm.storage.identity import identity_in, of_models, read_identity, refuse_mismatch, warn_unknown
from lit_prm.storage.run_files import CONFIG_REMEDY, config_of
from lit_prm.storage.schemas import fitting


def _as_named(part: Any) -> Any:
    """A class as configs may write it, by its path alone or with arguments, with arguments."""
    return named(part) if isinstance(part, str) else part


_Class = Annotated[Named, BeforeValidator(_as_named)]


@dataclass
class _Model:
    reward_model: _Class
    loss: _Class
    reference: _Class | None = None


@dataclass
class _Data:
    tokenizer: str
    steps: _Class | None = None
    max_length: Length = 2048
    prompt_template: str = "{prompt}"


@dataclass
class _Trainer:
    max_epochs: int | None = None
    callbacks: list[_Class] | None = None


@dataclass
class _Config:
    """What a run's configuration says about its reward model."""

    model: _Model
    data: _Data
    trainer: _Trainer


def spec_of_run(source: str | Path) -> RewardSpec:
    """The spec of a run's folder or of one of its checkpoints.

    Relative paths start at the folder in which the run was started: the nearest parent of the run that has them, else
    the current folder. A run that trains nothing (``max_epochs`` 0) has no checkpoint and scores with its base model.
    Raises ValueError for a checkpoint of another run.
    """
    folder, weights = _run_of(Path(source))
    file = folder / "config.yaml"
    config = fitting(config_of(file), _Config, file, CONFIG_REMEDY)
    if weights is None and config.trainer.max_epochs != 0:
        raise ValueError(
            f"{folder} has no checkpoints/last.ckpt, so nothing was trained yet. Run its experiment first."
        )
    model, data = config.model, config.data
    identity = of_models(_identity_of(folder, weights))
    spec = RewardSpec(
        reward_model=model.reward_model,
        reference=model.reference,
        tokenizer=data.tokenizer,
        steps=data.steps or named("lit_prm.data.steps.BlankLine"),
        max_length=data.max_length,
        prompt_template=data.prompt_template,
        aggregate=_primary_aggregate(config.trainer.callbacks or ()),
        loss=model.loss["class_path"].rpartition(".")[2],
        weights=None if weights is None else str(weights),
        identity=identity,
    )
    refuse_foreign_classes(spec.to_json(), file)
    return spec.with_paths(lambda name: _where_started(name, folder))


def _identity_of(folder: Path, checkpoint: Path | None) -> dict[str, str]:
    """The identity that a run and its checkpoint record; raises ValueError if they record different ones."""
    recorded = read_identity(folder)
    saved = identity_in(content_of(checkpoint), checkpoint) if checkpoint else recorded
    if not (saved or recorded):
        warn_unknown(str(checkpoint or folder))
    if checkpoint:
        remedy = "Give the folder of the run that saved this checkpoint."
        refuse_mismatch(recorded, saved, f"the run {folder}", str(checkpoint), remedy)
    return recorded | saved


def is_run(source: str | Path) -> bool:
    """True for the folder of a training run and for a checkpoint.

    A ``config.yaml`` beside a model is of another program and not read. Beside the ``reward.json`` of an export it
    raises ValueError: the two describe different reward models.
    """
    path = Path(source)
    described = (path / "config.yaml").is_file()
    if described and (path / SPEC_FILE).is_file():
        raise ValueError(
            f"{path} holds config.yaml, as runs do, and {SPEC_FILE}, as exports do, and only one of them describes the "
            "reward model. Remove the other one."
        )
    is_model = any((path / name).is_file() for name in ("config.json", ADAPTER_FILE))
    return path.suffix == ".ckpt" or (described and not is_model)


def _run_of(path: Path) -> tuple[Path, Path | None]:
    """The run's folder, and the checkpoint to score with: the last one if a folder is given."""
    if path.suffix != ".ckpt":
        last = path / "checkpoints" / "last.ckpt"
        return path, last if last.exists() else None
    folder = next((p for p in path.resolve().parents[:2] if (p / "config.yaml").is_file()), None)
    if not path.exists():
        raise ValueError(f"There is no checkpoint {path}. Correct the path, or give the run's folder.")
    if folder is None:
        raise ValueError(
            f"{path} has no config.yaml beside it or one folder up. Give a run's folder, or a checkpoint in the run's "
            "checkpoints/."
        )
    return folder, path


def _where_started(name: str, run: Path) -> str:
    """The path of a file or folder, looked for in every parent of the run and then here; else the name unchanged.

    The parents come first: another folder of the same name may lie wherever a command is started.
    """
    if Path(name).is_absolute():
        return name
    return next((str(above / name) for above in run.resolve().parents if (above / name).exists()), name)


def _primary_aggregate(callbacks: Sequence[Named]) -> str:
    """The first aggregate of the first callback that has the option ``aggregates``: ``BestOfN`` or a subclass."""
    options = (arguments_of(callback).get("aggregates") for callback in callbacks)
    return next((str(aggregates[0]) for aggregates in options if aggregates), "min")
