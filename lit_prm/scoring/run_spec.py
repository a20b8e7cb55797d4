"""The spec of a training run or of one of its checkpoints, read from the run's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_prm.scoring.spec import RewardSpec, arguments_of, named
from lit_prm.storage.run_files import config_of


def spec_of_run(source: str | Path) -> RewardSpec:
    """The spec of a run's folder or of one of its checkpoints.

    Relative paths start at the folder in which the run was started: the current one, or the nearest parent of the run
    that has them. A run that trains nothing (``max_epochs`` 0) has no checkpoint and scores with its base model.
    """
    folder, weights = _run_of(Path(source))
    file = folder / "config.yaml"
    config = config_of(file, file.read_text())
    if weights is None and config["trainer"].get("max_epochs") != 0:
        raise ValueError(
            f"{folder} has no checkpoints/last.ckpt, so nothing was trained yet. Run its experiment first."
        )
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
    return spec.with_paths(lambda name: _where_started(name, folder))


def is_run(source: str | Path) -> bool:
    """True for the folder of a training run and for a checkpoint."""
    path = Path(source)
    return path.suffix == ".ckpt" or (path / "config.yaml").is_file()


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
    """The path of a file or folder, looked for here and then in every parent of the run; else the name unchanged."""
    if Path(name).exists():
        return name
    return next((str(above / name) for above in run.resolve().parents if (above / name).exists()), name)


def _primary_aggregate(trainer: Mapping[str, Any]) -> str:
    """The first aggregate of the first callback that has the option ``aggregates``: ``BestOfN`` or a subclass."""
    options = (arguments_of(callback).get("aggregates") for callback in trainer.get("callbacks") or ())
    return next((str(aggregates[0]) for aggregates in options if aggregates), "min")


def _as_named(part: Any) -> dict[str, Any]:
    """A class as configs may write it: by its path alone, or with arguments."""
    if isinstance(part, str):
        return named(part)
    return named(part["class_path"], part.get("init_args"))
