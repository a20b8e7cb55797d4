"""A run's folder and its MLflow run say what was run, how it ended and what it found."""

from __future__ import annotations

import json
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks import LastCheckpoint
from callbacks.run_record import RunRecord, code_state, versions
from lit_prm.commands.lightning import LitCLI
from lit_prm.storage.mlflow_logger import MLflow
from lit_prm.storage.run_folder import refuse_mixing
from tests.mlflow_store import fresh_store

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",  # Lightning 2.6 with torch 2.13
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning",  # of Lightning's use of it
    "ignore:.*does not have many workers",  # nothing to load in parallel
    "ignore:.*your dataloader is not resumable",  # every datum is the same
)


class Weight(LightningModule):
    """Learns one weight in four updates; raises ``ends_by`` at the last one when told to."""

    draws = True

    def __init__(self, ends_by: type[BaseException] | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.ends_by = ends_by
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.ends_by and self.global_step == 3:
            raise self.ends_by
        loss: Tensor = self.layer(batch[0]).square().mean()
        self.losses.append(loss.item())
        self.log("train/loss", loss)
        self.log("time/seconds_per_update", time.perf_counter())
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("bon/validation/acc@16", self.layer.weight.mean())

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("bon/test/acc@16", self.layer.weight.mean())

    def on_fit_end(self) -> None:
        if not self.draws:
            return
        figures = Path(self.trainer.default_root_dir) / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        (figures / "validation.png").write_bytes(b"figure")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Ones(LightningDataModule):
    """Four ones, with the digests and the report of a real data module."""

    report = SimpleNamespace(as_dict=lambda: {"rows": 4, "refused": 0})

    def digests(self) -> dict[str, str]:
        return {"train": "a" * 64}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.ones(4, 1)))

    val_dataloader = test_dataloader = train_dataloader


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # after Ctrl-C, Lightning leaves it ignored


def start(
    run: str = "run",
    command: str = "fit",
    *,
    logger: bool = True,
    ends_by: type[BaseException] | None = None,
    **trainer: Any,
) -> tuple[Trainer, Weight]:
    """What a process does that starts, or goes on with, the run of folder ``run``."""
    seed_everything(3, verbose=False)
    last = Path(run, "checkpoints", "last.ckpt")
    ckpt = str(last) if last.exists() else None
    config: Any = SimpleNamespace(name="ce-1resp", scale="tiny", seed_everything=3, run_dir=run, ckpt_path=ckpt)
    parser: Any = SimpleNamespace(dump=lambda config, **_: yaml.safe_dump({**vars(config), "model": {"beta": 0.05}}))
    runner = Trainer(
        max_epochs=1, accelerator="cpu", enable_progress_bar=False, log_every_n_steps=1, num_sanity_val_steps=0,
        enable_model_summary=False, default_root_dir=run,
        logger=MLflow(run, "ce-1resp") if logger else False,
        callbacks=[RunRecord(parser, config), LastCheckpoint(f"{run}/checkpoints", every_n_updates=3)], **trainer,
    )  # fmt: skip
    model = Weight(ends_by)
    if command == "fit":
        runner.fit(model, datamodule=Ones(), ckpt_path=ckpt, weights_only=False)
    else:
        runner.test(model, datamodule=Ones(), ckpt_path=ckpt, weights_only=False, verbose=False)
    return runner, model


def summary(run: str = "run") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "summary.json").read_text())
    return found


def recorded() -> Any:
    logger = MLflow("run", "")
    return logger.experiment.get_run(logger.run_id)


# --- what is kept ---------------------------------------------------------------------------------


def test_summary_tells_what_was_run_and_found() -> None:
    runner, model = start(logger=False)
    fitted = summary()
    runner.test(model, datamodule=Ones(), verbose=False)
    found = summary()
    facts = {
        "name": "ce-1resp",
        "scale": "tiny",
        "seed": 3,
        **code_state(),
        "versions": versions(),
        "status": "FINISHED",
    }
    assert {key: value for key, value in found.items() if key not in ("metrics", "timing")} == facts
    assert list(found["metrics"]) == ["train/loss", "bon/validation/acc@16", "bon/test/acc@16"]
    assert found["metrics"]["bon/test/acc@16"] == model.layer.weight.item()
    assert found["metrics"]["train/loss"] == model.losses[-1]
    assert found["metrics"].items() >= fitted["metrics"].items()
    assert set(found["timing"]) == {"wall_seconds", "cpu_seconds", "time/seconds_per_update"}
    assert found["timing"]["wall_seconds"] > fitted["timing"]["wall_seconds"] > 0


def test_equal_runs_have_equal_metrics() -> None:
    for run in ("one", "two"):
        start(run, logger=False)
    assert list(summary("one")["metrics"].items()) == list(summary("two")["metrics"].items())
    assert summary("one")["timing"] != summary("two")["timing"]


def test_mlflow_holds_params_tags_data_and_files() -> None:
    runner, model = start()
    runner.test(model, datamodule=Ones(), verbose=False)
    run, client = recorded(), MLflow("run", "").experiment
    assert (run.info.status, run.info.run_name) == ("FINISHED", "ce-1resp")
    assert run.data.params.items() >= {"model.beta": "0.05", "scale": "tiny"}.items()
    tags = {"name": "ce-1resp", "scale": "tiny", "seed": "3", "data.train": "a" * 64, "version.torch": version("torch")}
    tags |= {key: str(value) for key, value in code_state().items()}
    assert run.data.tags.items() >= tags.items()
    program, *args = sys.orig_argv
    assert run.data.tags["command"] == shlex.join([Path(program).name, *args])
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["train"]
    kept = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert kept == {"config.yaml", "data.json", "summary.json", "figures"}
    assert json.loads(Path("run/data.json").read_text()) == {"rows": 4, "refused": 0, "digests": {"train": "a" * 64}}
    assert run.data.metrics.keys() >= {"train/loss", "bon/validation/acc_at_16", "bon/test/acc_at_16"}


# --- how it ended ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends_by", "raised", "status"),
    [(ZeroDivisionError, ZeroDivisionError, "FAILED"), (KeyboardInterrupt, SystemExit, "KILLED")],
)
def test_a_stopped_run_says_so(ends_by: type[BaseException], raised: type[BaseException], status: str) -> None:
    with pytest.raises(raised):
        start(ends_by=ends_by)
    assert summary()["status"] == recorded().info.status == status


def test_a_resumed_run_ends_like_one_never_stopped() -> None:
    start("straight", logger=False)
    with pytest.raises(ZeroDivisionError):
        start(ends_by=ZeroDivisionError)
    stopped, run = summary(), recorded()
    start()
    assert recorded().info.run_id == run.info.run_id
    assert recorded().info.status == summary()["status"] == "FINISHED"
    assert summary()["metrics"] == summary("straight")["metrics"]
    assert all(summary()["timing"][k] > stopped["timing"][k] for k in ("wall_seconds", "cpu_seconds"))


def test_a_run_killed_without_warning_goes_on_from_its_checkpoint() -> None:
    start(logger=False)
    metrics = summary()["metrics"]
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=False)
    checkpoint["callbacks"]["RunRecord"]["wall_seconds"] = 1000.0
    torch.save(checkpoint, "run/checkpoints/last.ckpt")
    Path("run/summary.json").unlink()
    start(logger=False)  # nothing left to train
    assert 1000 < summary()["timing"]["wall_seconds"] < 1100
    assert summary()["metrics"] == metrics


def test_a_fresh_start_forgets_what_the_folder_held() -> None:
    Path("run").mkdir()
    Path("run/summary.json").write_text(json.dumps({"metrics": {"old": 1.0}, "timing": {"wall_seconds": 1e6}}))
    start(logger=False)
    assert "old" not in summary()["metrics"]
    assert summary()["timing"]["wall_seconds"] < 1000


def test_a_later_test_adds_to_the_summary() -> None:
    start(logger=False)
    fitted = summary()["metrics"]
    config = Path("run/config.yaml").stat().st_mtime_ns
    start(command="test", logger=False)
    assert summary()["metrics"].keys() == fitted.keys() | {"bon/test/acc@16"}
    assert summary()["metrics"].items() >= fitted.items()
    assert Path("run/config.yaml").stat().st_mtime_ns == config


@pytest.mark.parametrize("trained", [False, True])
def test_a_test_of_untrained_weights_is_no_finished_run(trained: bool) -> None:
    if trained:
        start(logger=False)
        Path("run/checkpoints/last.ckpt").unlink()
    before = Path("run/summary.json").read_text() if trained else None
    start(command="test", logger=False)
    assert Path("run/summary.json").read_text() == before if trained else summary()["status"] == "UNTRAINED"


def test_a_fit_goes_on_with_the_same_data_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        start(ends_by=ZeroDivisionError, logger=False)
    before = Path("run/summary.json").read_text()
    monkeypatch.setattr(Ones, "digests", lambda self: {"train": "b" * 64, "new": "c" * 64})
    with pytest.raises(ValueError, match=r"data of 'train' changed since run was begun\. .*--run_dir run-other"):
        start(logger=False)
    assert Path("run/summary.json").read_text() == before


def test_a_fresh_start_replaces_the_config() -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text("old: 1\n")
    start(logger=False)
    assert "old" not in Path("run/config.yaml").read_text()


def test_a_run_that_could_not_begin_leaves_the_earlier_record(monkeypatch: pytest.MonkeyPatch) -> None:
    start(logger=False)
    before = Path("run/summary.json").read_text()

    def broken(self: Ones, stage: str) -> None:
        raise FileNotFoundError("train.jsonl")

    monkeypatch.setattr(Ones, "setup", broken)
    with pytest.raises(FileNotFoundError):
        start(logger=False)
    assert Path("run/summary.json").read_text() == before


# --- without MLflow, without a run ----------------------------------------------------------------


def test_without_a_logger_the_folder_is_still_complete() -> None:
    start(logger=False)
    assert {p.name for p in Path("run").iterdir()} == {
        "checkpoints",
        "config.yaml",
        "data.json",
        "figures",
        "identity.json",
        "summary.json",
    }


def test_fast_dev_run_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Weight, "draws", False)
    start(fast_dev_run=True)
    assert not Path("run").exists()


def test_only_rank_zero_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, model = start(logger=False)
    Path("run/summary.json").unlink()
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    runner.callbacks[0].on_fit_end(runner, model)  # type: ignore[attr-defined]
    assert not Path("run/summary.json").exists()


# --- through the real command line ----------------------------------------------------------------


def test_config_is_what_refuse_mixing_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lit_prm"])  # LightningCLI warns of arguments of another program
    quiet = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {
        "enable_checkpointing": False,
        "default_root_dir": "${run_dir}",
        "num_sanity_val_steps": 0,
        "logger": False,
    }
    Path("base.yaml").write_text(yaml.safe_dump({"name": "ce-1resp", "run_dir": "runs/${name}", "trainer": quiet}))
    cli = LitCLI("fit", ["--config=base.yaml", "--name=dpo-8resp"], Weight, Ones)
    cli.execute()
    folder = Path("runs/dpo-8resp")
    stored = (folder / "config.yaml").read_text()
    assert yaml.safe_load(stored)["trainer"]["default_root_dir"] == str(folder)  # resolved
    assert stored == cli.parser.dump(cli.config, skip_link_targets=False)
    refuse_mixing(folder, lambda: stored)
    with pytest.raises(ValueError, match="max_epochs: 1 -> 2"):
        refuse_mixing(folder, lambda: stored.replace("max_epochs: 1", "max_epochs: 2"))
    assert summary(str(folder))["name"] == "dpo-8resp"


def test_the_commit_is_that_of_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run takes hours; what is committed meanwhile is not what it ran."""
    states = iter([{"commit": "started", "dirty": False}, {"commit": "later", "dirty": True}])
    monkeypatch.setattr("callbacks.run_record.code_state", lambda: next(states))
    config: Any = SimpleNamespace(name="n", scale="s", seed_everything=0, run_dir=str(tmp_path))
    record = RunRecord(cast(Any, None), config)
    assert record._facts()["commit"] == "started" == record._facts()["commit"]
