"""Law 8: resuming equals never having stopped, bit for bit; what is finished is not done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from callbacks import BestOfN, LastCheckpoint
from lit_prm.commands.main import main
from lit_prm.data.batch import Batch
from lit_prm.training.module import LitPRM
from tests.forks import Fork
from tests.integration.conftest import BRIEF, Desk, callbacks, metrics, same_weights, summary

RUN = "runs/tiny/ce-8resp/seed-0"


class Stop(Exception):
    """What a power cut would be."""


def rhythm(desk: Desk) -> list[str]:
    """Options of a run of 12 updates of two parts in 2 epochs, validated at 3, 6, 9 and 12, saved at every third."""
    config = callbacks("${run_dir}", 3)
    config["trainer"]["max_epochs"] = 2
    sizes = ["--data.batch_size=32", "--trainer.accumulate_grad_batches=2"]
    return [desk.config("rhythm", config), *sizes, "--data.test={test: candidates/test.jsonl}"]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory, micro_world: Path) -> Path:
    folder = tmp_path_factory.mktemp("never-stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        desk = Desk(folder, micro_world)
        return desk.exp("ce-8resp", *rhythm(desk))


def test_a_run_killed_mid_epoch_ends_with_the_weights_of_one_never_killed(
    desk: Desk, never_stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at_8(desk, 2, *rhythm(desk))  # the second goes on from update 6, and is no further when it dies
    capsys.readouterr()
    run = desk.exp("ce-8resp", *rhythm(desk))
    assert f"continuing {RUN} from its last checkpoint" in capsys.readouterr().out
    assert same_weights(run, never_stopped)
    assert metrics(run) == metrics(never_stopped)


@pytest.mark.slow
def test_a_run_without_validation_goes_on_from_its_epochs_end(desk: Desk) -> None:
    """Update 6 is the first epoch's last, and no validation comes between it and the save."""
    options = [*rhythm(desk), "--trainer.limit_val_batches=0", "--data.test={}"]
    unbroken = desk.exp("ce-8resp", *options).rename(desk.folder / "unbroken")
    kill_at_8(desk, 1, *options)
    saved = torch.load(desk.folder / RUN / "checkpoints" / "last.ckpt", weights_only=False)
    assert saved["global_step"] == 6
    assert same_weights(desk.exp("ce-8resp", *options), unbroken)


def kill_at_8(desk: Desk, times: int, *options: str) -> None:
    """The command in a process of its own, killed behind its eighth update; until then it had nothing to warn of."""
    saved = LastCheckpoint.on_train_batch_end

    def and_die(self: LastCheckpoint, trainer: Trainer, *args: Any) -> None:
        saved(self, trainer, *args)
        if trainer.global_step == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LastCheckpoint, "on_train_batch_end", and_die)
        for time in range(times):
            killed = Fork(lambda: desk.exp("ce-8resp", *options), desk.folder / f"killed-{time}").ended()
            assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")


@pytest.mark.parametrize("at", [pytest.param(6, marks=pytest.mark.slow), 12])
def test_a_run_stopped_while_it_validates_loses_no_metric(at: int, desk: Desk, never_stopped: Path) -> None:
    def stop(self: BestOfN, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == at:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestOfN, "on_validation_epoch_end", stop)
        with pytest.raises(Stop):
            desk.exp("ce-8resp", *rhythm(desk))
    assert summary(desk.folder / RUN)["status"] == "FAILED"
    run = desk.exp("ce-8resp", *rhythm(desk))
    assert same_weights(run, never_stopped)
    assert metrics(run) == metrics(never_stopped)


@pytest.mark.parametrize(
    ("sent", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_stopped_command_says_so_and_goes_on(
    sent: signal.Signals, status: int, desk: Desk, never_stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = LitPRM.training_step
    # a shell's background job ignores Ctrl-C, and so would this test
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def and_signal(self: LitPRM, batch: Batch, batch_idx: int) -> Tensor:
        if self.trainer.global_step == 7:
            signal.raise_signal(sent)
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LitPRM, "training_step", and_signal)
        patch.setenv("LIT_PRM_STOPPED", str(desk.folder / "stopped"))
        with pytest.raises(SystemExit) as ended:
            desk.exp("ce-8resp", *rhythm(desk))
    assert (desk.folder / "stopped").read_text() == f"{status}\n"  # for a launcher
    signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert ended.value.code == status
    assert "stopped; the same command resumes the run" in capsys.readouterr().err
    assert summary(desk.folder / RUN)["status"] == "KILLED"
    assert same_weights(desk.exp("ce-8resp", *rhythm(desk)), never_stopped)


@pytest.mark.slow
def test_judging_a_half_trained_run_does_not_finish_it(desk: Desk, never_stopped: Path) -> None:
    def stop(self: BestOfN, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 9:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestOfN, "on_validation_epoch_end", stop)
        with pytest.raises(Stop):
            desk.exp("ce-8resp", *rhythm(desk))
    (desk.folder / RUN / "summary.json").unlink()  # as after a SIGKILL
    files = [f"--config=experiments/{name}.yaml" for name in ("base", "scale/tiny", "ce-8resp")]
    main(["test", *files, "--name=ce-8resp", *desk.options(*rhythm(desk))])
    assert summary(desk.folder / RUN)["status"] == "JUDGED"
    run = desk.exp("ce-8resp", *rhythm(desk))
    assert same_weights(run, never_stopped)
    assert summary(run)["status"] == "FINISHED"


def test_a_run_that_failed_before_its_first_checkpoint_may_be_corrected(desk: Desk) -> None:
    def stop(*_: Any) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LitPRM, "training_step", stop)
        with pytest.raises(Stop):
            desk.exp("ce-8resp", *BRIEF, record=True)
    first = (desk.folder / RUN / "mlflow-run-id").read_text()
    run = desk.exp("ce-8resp", "--model.reward_model.init_args.beta=0.5", *BRIEF, record=True)
    assert "beta: 0.5" in (run / "config.yaml").read_text()
    assert (run / "mlflow-run-id").read_text() != first  # MLflow keeps the parameters of a run
    assert summary(run)["status"] == "FINISHED"


class TestFinished:
    @pytest.fixture
    def finished(self, done: Path, desk: Desk) -> Path:
        shutil.copytree(done, desk.folder / RUN)
        return desk.folder / RUN

    @pytest.fixture(autouse=True)
    def no_work(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once finished, nothing may be trained or scored."""

        def refused(*_: Any) -> None:
            pytest.fail("worked again")

        monkeypatch.setattr(LitPRM, "training_step", refused)
        monkeypatch.setattr(LitPRM, "score", refused)

    def test_a_finished_run_only_prints_its_table(
        self, finished: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
        capsys.readouterr()
        desk.exp("ce-8resp")
        out = capsys.readouterr().out
        assert "is finished" in out
        assert "test: accuracy of the chosen answer" in out
        assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == files

    def test_another_configuration_is_refused_and_named(
        self, finished: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            desk.exp("ce-8resp", "--model.reward_model.init_args.beta=0.5")
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert "model.reward_model.init_args.beta: 2.0 -> 0.5" in message
        assert "--run_dir runs/tiny/ce-8resp/seed-0-other" in message

    def test_a_trained_run_that_was_not_tested_is_tested(
        self, finished: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Training must not run again (see above), testing must: it is stopped at its first batch."""
        found = summary(finished)
        found["metrics"] = {k: v for k, v in found["metrics"].items() if "/test/" not in k}
        (finished / "summary.json").write_text(json.dumps(found))

        def stop(self: LitPRM, batch: Batch) -> None:
            raise Stop

        monkeypatch.setattr(LitPRM, "score", stop)
        with pytest.raises(Stop):
            desk.exp("ce-8resp")
