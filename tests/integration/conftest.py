"""A place to run the real command line in: experiment files, a micro world, a store of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_prm.commands.main import main
from lit_prm.evaluation import artifacts
from tests.conftest import made_once
from tests.mlflow_store import fresh_store

REPOSITORY = Path(__file__).parents[2]

# one set to judge and few updates: what a file says is looked at, not what it teaches
BRIEF = (
    "--data.test={test: candidates/test.jsonl}", "--data.validation={}", "--trainer.limit_val_batches=0",
    "--trainer.limit_train_batches=2", "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false",
)  # fmt: skip


def undrawn(path: Path, _: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


class Desk:
    """A working directory for commands on the micro world; runs end in ``folder/runs``."""

    def __init__(self, folder: Path, world: Path) -> None:
        self.folder, self.root = folder, world
        # small updates, validated twice an epoch, whatever the scale file finds right for its own world
        sizes = ["--data.batch_size=16", "--trainer.accumulate_grad_batches=1", "--trainer.val_check_interval=0.5"]
        self.micro = ["--data.world=null", f"--data.root={world}", *sizes]
        if not (folder / "experiments").exists():
            shutil.copytree(REPOSITORY / "experiments", folder / "experiments")
            tiny = folder / "experiments" / "scale" / "tiny.yaml"
            whole = "    - PolicyAccuracy\n"
            assert whole in tiny.read_text()
            few = "    - class_path: PolicyAccuracy\n      init_args: {max_new_tokens: 8}\n"
            tiny.write_text(tiny.read_text().replace(whole, few))

    def exp(self, name: str, *options: str, record: bool = False, draw: bool = False) -> Path:
        """Run `exp` in this process on the micro world; the run's folder.

        Its figures, a third of the time, are empty files unless asked for.
        """
        with pytest.MonkeyPatch.context() as patch:
            if not draw:
                patch.setattr(artifacts, "draw_curves", undrawn)
            main(["exp", name, *self.options(*options, record=record)])
        return self.folder / "runs" / "tiny" / name / "seed-0"

    def options(self, *options: str, record: bool = False) -> list[str]:
        return [*self.micro, *([] if record else ["--trainer.logger=false"]), *options]

    def config(self, name: str, content: dict[str, Any]) -> str:
        """The option that adds a config file with this content."""
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content))
        return f"--config={file}"


@pytest.fixture
def desk(tmp_path: Path, micro_world: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.setattr(artifacts, "draw_curves", undrawn)
    return Desk(tmp_path, micro_world)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, micro_world: Path) -> Path:
    """The folder of a finished ce-8resp run."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
            Desk(folder, micro_world).exp("ce-8resp", draw=True)

    return made_once(tmp_path_factory, "done", make) / "runs" / "tiny" / "ce-8resp" / "seed-0"


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def metrics(run: Path) -> str:
    """What two equal runs have equal, byte for byte."""
    return json.dumps(summary(run)["metrics"])


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    return found


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def callbacks(run_dir: str, every_n_updates: int, extra: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The callbacks of base.yaml with another rhythm of checkpoints."""
    last = {"folder": f"{run_dir}/checkpoints", "every_n_updates": every_n_updates}
    listed = [
        {"class_path": "FillReference"},
        {"class_path": "BestOfN", "init_args": {"folder": run_dir}},
        {"class_path": "LastCheckpoint", "init_args": last},
        {"class_path": "SafeStop"},
        {"class_path": "RefuseNonfinite", "init_args": {"folder": run_dir}},
        *extra,
    ]
    return {"trainer": {"callbacks": listed, "enable_progress_bar": False}}
