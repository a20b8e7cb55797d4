"""RunRecord: configuration, code version, data, status and metrics of a run, in its folder and in MLflow."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.run_identity import RunIdentity, models_of
from lit_prm.storage.atomic import write_text
from lit_prm.storage.mlflow_logger import MLflow
from lit_prm.storage.run_files import read_record, status

_PACKAGES = ("torch", "lightning", "transformers", "mlflow", "deepspeed", "datasets")


class RunRecord(SaveConfigCallback):
    """Writes ``config.yaml``, ``data.json`` and ``summary.json`` to the run's folder, and the same to MLflow.

    ``summary.json`` holds the last value of every metric over fit and test. Two equal runs have equal "metrics";
    everything that depends on the clock is in "timing". Seconds count from the moment the data are ready and add up
    over stops and restarts. A fast_dev_run writes nothing. A test of the untrained policy has the status UNTRAINED
    and does not change the summary of a finished run.

    ``data.json`` holds the digest of every file that was read. A fit that resumes from a checkpoint raises if one of
    the files has changed. ``identity.json`` and every checkpoint hold the hashes of the run and of the models it was
    made with. Raises ValueError if the base, the reference or the tokenizer have changed since, and for a checkpoint
    of another run.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, overwrite: bool = True) -> None:
        super().__init__(parser, config, overwrite=overwrite, save_to_log_dir=False)
        self.folder = Path(config.run_dir)
        self._metrics: dict[str, float] = {}
        self._spent = _Spent()
        self._identity = RunIdentity(self.folder)
        self._code = code_state()  # now: files may be edited during a long run
        self._fitting = True
        self._trained = False  # True if the weights come from a fit, in this process or an earlier one
        self._fitted = False  # True once this process has finished its fit

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        resumes = self.config.ckpt_path is not None  # the trainer itself knows this only later
        self._trained = self._trained or stage == "fit" or resumes
        if stage == "fit" and resumes and not _writes_nothing(trainer):
            # on every rank, before one of them writes
            refuse_changed_data(self.folder / "data.json", _digests(trainer))
        if not _writes_nothing(trainer):
            self._identify(models_of(trainer, pl_module), goes_on=resumes or stage != "fit")
        super().setup(trainer, pl_module, stage)  # calls save_config once, on rank zero
        self._spent.start()
        if tracker := _tracker(trainer):
            tracker.go_on()

    def _identify(self, models: Mapping[str, str], *, goes_on: bool) -> None:
        self._identity.go_on(models) if goes_on else self._identity.begin(models, self._dumped)

    @cached_property
    def _dumped(self) -> str:
        """The configuration as YAML; a dump takes a tenth of a second."""
        return str(self.parser.dump(self.config, skip_link_targets=False, skip_validation=True))

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if _writes_nothing(trainer):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._trained and stage != "fit":
            self._remember(read_record(self.folder / "summary.json"))
        self._write_inputs(trainer, self._dumped, stage)
        if tracker := _tracker(trainer):
            self._log_inputs(tracker, self._dumped, _digests(trainer))

    def _write_inputs(self, trainer: Trainer, config: str, stage: str) -> None:
        stored = self.folder / "config.yaml"
        resumes = self.config.ckpt_path is not None and stored.exists()
        if stage == "fit" and not resumes:  # the configuration of a resumed run differs at most by its ckpt_path
            write_text(stored, config)
        if stage == "fit":
            self._identity.write()
        report = getattr(getattr(trainer, "datamodule", None), "report", None)
        if report is not None:
            facts = {**report.as_dict(), "digests": _digests(trainer)}
            write_text(self.folder / "data.json", json.dumps(facts, indent=1) + "\n")

    def _log_inputs(self, tracker: MLflow, config: str, digests: Mapping[str, str]) -> None:
        tracker.log_hyperparams(yaml.safe_load(config))
        program, *args = sys.orig_argv
        command = shlex.join([Path(program).name, *args])
        tracker.log_tags({**self._facts(), "command": command, "run_dir": self.config.run_dir})
        tracker.log_tags({f"version.{package}": number for package, number in versions().items()})
        if digests:
            tracker.log_data(digests)
        for name in ("config.yaml", "data.json"):
            tracker.log_files(self.folder / name)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._collect(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collect(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Metrics and seconds so far, from which a resumed run continues its record."""
        return {"metrics": dict(self._metrics), **self._spent.seconds()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._fitting = trainer.state.fn == "fit"
        self._identity.check(checkpoint, str(trainer.ckpt_path))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._identity.save(checkpoint)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._fitting:  # a test of an older checkpoint must not replace the run's last metrics
            self._remember({"metrics": state_dict["metrics"], "timing": state_dict})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fitted = True
        self._finish(trainer, "FINISHED")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collect(trainer)
        stored = status(self.folder)
        if self._fitted or (self._trained and stored == "FINISHED"):
            self._finish(trainer, "FINISHED")
        elif stored != "FINISHED":  # a test does not finish a training
            self._finish(trainer, "UNTRAINED" if not self._trained else stored or "JUDGED")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        stopped = isinstance(exception, KeyboardInterrupt | SIGTERMException)
        judging = trainer.state.fn != "fit" and status(self.folder) == "FINISHED"
        if self.already_saved and not judging:  # otherwise the run had not begun: keep the earlier record
            self._finish(trainer, "KILLED" if stopped else "FAILED")

    def _collect(self, trainer: Trainer) -> None:
        """Remember the latest metrics; every rank must call it, because computing them may need all ranks."""
        self._metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}

    def _finish(self, trainer: Trainer, final: str) -> None:
        if _writes_nothing(trainer) or not trainer.is_global_zero:
            return
        write_text(self.folder / "summary.json", json.dumps(self._summary(final), indent=1) + "\n")
        if tracker := _tracker(trainer):
            for name in ("summary.json", "figures", "scores"):
                tracker.log_files(self.folder / name)

    def _summary(self, final: str) -> dict[str, Any]:
        clocked = {name: value for name, value in self._metrics.items() if name.startswith("time/")}
        metrics = {name: value for name, value in self._metrics.items() if name not in clocked}
        timing = {**self._spent.seconds(), **clocked}
        return {**self._facts(), "versions": versions(), "status": final, "metrics": metrics, "timing": timing}

    def _facts(self) -> dict[str, Any]:
        named = {"name": self.config.name, "scale": self.config.scale, "seed": self.config.seed_everything}
        return {**named, **self._code}

    def _remember(self, earlier: dict[str, Any]) -> None:
        self._metrics |= earlier.get("metrics", {})
        self._spent.add_earlier(earlier.get("timing", {}))


class _Spent:
    """Wall and CPU seconds of a run: of this process since ``start``, and of the processes before."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None
        self._earlier = (0.0, 0.0)

    def start(self) -> None:
        self._began = self._began or _clocks()

    def add_earlier(self, timing: dict[str, float]) -> None:
        """Take over the totals of earlier processes; of two records of one run the longer one is the later one."""
        totals = (timing.get("wall_seconds", 0.0), timing.get("cpu_seconds", 0.0))
        self._earlier = max(self._earlier, totals)

    def seconds(self) -> dict[str, float]:
        now = _clocks()
        wall, cpu = (e + n - b for e, n, b in zip(self._earlier, now, self._began or now, strict=True))
        return {"wall_seconds": round(wall, 3), "cpu_seconds": round(cpu, 3)}


def refuse_changed_data(record: Path, digests: Mapping[str, str]) -> None:
    """Raise ValueError if a file that the run of ``record`` has read holds other data now; names each by its role."""
    before = read_record(record).get("digests", {})
    changed = sorted(role for role in before.keys() & digests.keys() if before[role] != digests[role])
    if changed:
        raise ValueError(
            f"the data of {', '.join(map(repr, changed))} changed since {record.parent} was begun. Restore the files "
            f"to resume the run, remove the folder to start again, or keep both: --run_dir {record.parent}-other"
        )


def _digests(trainer: Trainer) -> dict[str, str]:
    digests = getattr(getattr(trainer, "datamodule", None), "digests", dict)
    return dict(digests())


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package whose release may change results."""
    by_package = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            by_package[package] = version(package)
        except PackageNotFoundError:
            continue
    return by_package


def code_state() -> dict[str, Any]:
    """The commit of this code, and whether files differ from the commit; both None outside a git checkout."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"commit": commit, "dirty": bool(changes) if commit else None}


def _git(*args: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _tracker(trainer: Trainer) -> MLflow | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, MLflow)), None)


def _writes_nothing(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
