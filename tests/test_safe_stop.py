"""A signal ends training between two updates, saved; the run goes on as if it had never been stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from callbacks import AtomicCheckpointIO, LastCheckpoint, SafeStop
from callbacks.stop_signals import SIGNALS, Stopped, signals_to_take

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # nothing to load in parallel
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),  # every datum is the same
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`"),
]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A shell's background job ignores Ctrl-C, and so would these tests."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


class Line(LightningModule):
    """Two micro-batches make an update; every training step and validation batch is noted with its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[tuple[str, int, float]] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self._note("train", batch_idx)
        loss: Tensor = self.layer(batch[0]).square().mean()
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._note("validate", batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_epoch_end(self) -> None:
        self._note("end", self.current_epoch)

    def _note(self, stage: str, batch_idx: int) -> None:
        self.seen.append((stage, batch_idx, self.layer.weight.item()))


class Signals(Callback):
    """Sends this process a signal at the given time: a hook and how often it was called before."""

    def __init__(self, hook: str, call: int, number: int = signal.SIGTERM, times: int = 1) -> None:
        def act(*_: Any, **__: Any) -> None:
            calls.append(hook)
            if len(calls) == call + 1:
                for _time in range(times):
                    os.kill(os.getpid(), number)

        calls: list[str] = []
        setattr(self, hook, act)


def train(folder: Path, *callbacks: Callback, saves_every: int = 100, **options: Any) -> Line:
    """Eight updates in two epochs, validated on three batches after every second one."""
    torch.manual_seed(0)
    safe, last = SafeStop(), folder / "last.ckpt"
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=2,
        num_sanity_val_steps=0, default_root_dir=folder, val_check_interval=4,
        accumulate_grad_batches=2, plugins=[AtomicCheckpointIO()],
        callbacks=[*callbacks, LastCheckpoint(str(folder), saves_every), safe], **options,
    )  # fmt: skip
    model = Line()
    with safe.listening(trainer):
        trainer.fit(
            model,
            DataLoader(TensorDataset(torch.ones(8, 1))),
            DataLoader(TensorDataset(torch.ones(3, 1))),
            ckpt_path=str(last) if last.exists() else None,
            weights_only=False,
        )
    return model


# The moment of the signal, and what the first process had seen by its end: steps of training, of validation.
MOMENTS = [
    ("on_train_batch_start", 0, 2, 0),  # an update is finished
    ("on_train_batch_end", 1, 2, 0),
    ("on_train_batch_end", 3, 4, 0),  # the validation that comes next is not begun
    ("on_validation_batch_start", 0, 4, 1),
    ("on_validation_batch_end", 2, 4, 3),
    ("on_train_batch_start", 4, 6, 3),
    ("on_train_batch_start", 7, 8, 3),  # the epoch's last update, and its validation is not begun
    ("on_validation_batch_start", 4, 8, 5),
    ("on_train_epoch_end", 0, 10, 6),  # the next update is the first that can stop
    ("on_validation_batch_start", 7, 12, 8),
    ("on_validation_batch_start", 10, 16, 11),  # after the last update
]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int, float]]:
    return train(tmp_path_factory.mktemp("unbroken")).seen


@pytest.mark.parametrize(("hook", "call", "steps", "validations"), MOMENTS)
def test_the_stopped_run_goes_on_as_if_it_had_not_been(
    hook: str, call: int, steps: int, validations: int, tmp_path: Path, unbroken: list[tuple[str, int, float]]
) -> None:
    noted: list[tuple[str, int, float]] = []

    class Keeps(Callback):
        def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
            noted.extend(pl_module.seen)  # type: ignore[arg-type]

    with pytest.raises(Stopped) as ended:
        train(tmp_path, Signals(hook, call), Keeps())
    assert ended.value.code == 143
    done = [stage for stage, *_ in noted]
    assert (done.count("train"), done.count("validate")) == (steps, validations)
    resumed = train(tmp_path).seen
    again = validations % 3  # batches of the validation that was broken off
    whole = len(noted) - (again or (3 if hook == "on_validation_batch_end" else 0))
    assert [*noted[:whole], *resumed] == unbroken


def test_a_validation_done_again_is_not_done_a_third_time(
    tmp_path: Path, unbroken: list[tuple[str, int, float]]
) -> None:
    class Fails(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            raise ZeroDivisionError

    with pytest.raises(Stopped):
        train(tmp_path, Signals("on_validation_batch_start", 0))
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, Fails(), saves_every=4)  # at the epoch's end, after its validation
    assert train(tmp_path).seen == unbroken[14:]


def test_the_end_of_an_epoch_without_validation_is_not_lost(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", limit_val_batches=0).seen
    with pytest.raises(Stopped):
        train(tmp_path / "broken", Signals("on_train_batch_start", 7), limit_val_batches=0)
    resumed = train(tmp_path / "broken", limit_val_batches=0).seen
    assert resumed == whole[-7:]  # six steps and the end; the first epoch had come to its own


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138), (signal.SIGTERM, 143)])
def test_the_exit_status_names_the_signal(number: int, status: int, tmp_path: Path) -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    with pytest.raises(Stopped) as ended:
        train(tmp_path, Signals("on_train_batch_start", 2, number))
    assert ended.value.code == status
    assert (tmp_path / "last.ckpt").exists()
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.parametrize(
    ("hook", "call", "saves"),
    [
        ("on_train_batch_start", 0, [1]),  # stopped behind update 1, where it was saved at its rhythm
        ("on_validation_batch_start", 0, [1, 2]),  # in the validation that the save of update 2 waits for
        ("on_validation_batch_start", 4, [1, 2, 3, 4]),
    ],
)
def test_an_update_is_saved_once(
    hook: str, call: int, saves: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, save = list[int](), LastCheckpoint.save

    def noted(last: LastCheckpoint, trainer: Trainer) -> None:
        saved.append(trainer.global_step)
        save(last, trainer)

    monkeypatch.setattr(LastCheckpoint, "save", noted)
    with pytest.raises(Stopped):
        train(tmp_path, Signals(hook, call), saves_every=1)
    assert saved == saves


def test_a_second_interrupt_stops_at_once_and_a_second_sigterm_does_not(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, Signals("on_train_batch_start", 2, signal.SIGINT, times=2))
    assert not (tmp_path / "last.ckpt").exists()
    with pytest.raises(Stopped):
        train(tmp_path, Signals("on_train_batch_start", 2, signal.SIGTERM, times=2))
    assert (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("hook", ["setup", "on_fit_start"])
def test_before_training_a_signal_stops_at_once(hook: str, tmp_path: Path) -> None:
    seen = []

    class Later(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append("trains")

    with pytest.raises(Stopped):
        train(tmp_path, Signals(hook, 0), Later())
    assert seen == []


def test_a_signal_too_late_to_stop_anything_is_told_after_the_end(tmp_path: Path) -> None:
    seen = []

    class Later(Callback):
        def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append("ended")

    with pytest.raises(Stopped):
        train(tmp_path, Signals("on_train_epoch_end", 1), Later())
    assert seen == ["ended"]


def test_a_signal_that_was_ignored_stays_so(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert len(train(tmp_path, Signals("on_train_batch_start", 2, signal.SIGINT)).seen) == 16 + 12 + 2


def test_a_signal_that_comes_while_the_ranks_are_asked_is_heard_at_the_next_update() -> None:
    class Strategy:
        root_device, launcher = "cpu", None
        calls = 0

        def reduce(self, asked: Tensor, reduce_op: str) -> Tensor:
            self.calls += 1
            if self.calls == 1:
                os.kill(os.getpid(), signal.SIGTERM)  # behind the note that was sent to the others
            return asked

    trainer: Any = SimpleNamespace(strategy=Strategy(), world_size=2)
    safe = SafeStop()
    agreed = []
    with suppress(Stopped), safe.listening(trainer):
        safe.signals.deferred = True
        agreed = [safe._agreed(trainer), safe._agreed(trainer)]
    assert agreed == [False, True]


def test_random_numbers_go_on_after_two_stops_in_one_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []

    def step(self: Line, batch: list[Tensor], batch_idx: int) -> Tensor:
        drawn.append(torch.rand(()).item())
        loss: Tensor = self.layer(batch[0]).square().mean()
        return loss

    monkeypatch.setattr(Line, "training_step", step)
    train(tmp_path / "whole")
    unbroken = drawn.copy()
    drawn.clear()
    for _ in range(2):
        with pytest.raises(Stopped):
            train(tmp_path / "broken", Signals("on_validation_batch_start", 0))
    train(tmp_path / "broken")
    assert drawn == unbroken


# --- in a Trainer of one's own, without the command line --------------------------------------------------


class Numbers(Dataset[Any]):
    """Eight ones; a worker process that reads the third sends itself a signal first, if ``number`` is given."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor]:
        if index == 2 and self.number is not None:
            os.kill(os.getpid(), self.number)
        return (torch.ones(1),)


def own_fit(folder: Path, *callbacks: Callback, data: Dataset[Any] | None = None, **options: Any) -> Line:
    """A training as users write it: their Trainer, their module, nothing around ``fit``."""
    torch.manual_seed(0)
    last, workers = folder / "last.ckpt", 1 if data is not None else 0
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=1,
        default_root_dir=folder, callbacks=[*callbacks, SafeStop()], **options,
    )  # fmt: skip
    model = Line()
    loader = DataLoader(data or Numbers(), num_workers=workers, multiprocessing_context="fork" if workers else None)
    trainer.fit(model, loader, ckpt_path=str(last) if last.exists() else None, weights_only=False)
    return model


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("with_last", [True, False], ids=["LastCheckpoint", "no LastCheckpoint"])
def test_ones_own_trainer_stops_saved_and_goes_on(
    number: int, status: int, with_last: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(n) for n in SIGNALS]

    def saved_by() -> list[Callback]:
        return [LastCheckpoint(str(tmp_path), 100)] if with_last else []

    whole = own_fit(tmp_path / "whole").seen
    capsys.readouterr()
    with pytest.raises(Stopped) as ended:
        own_fit(tmp_path, Signals("on_train_batch_start", 2, number), *saved_by())
    assert ended.value.code == status
    assert f"stopped after update 3; go on with ckpt_path='{tmp_path / 'last.ckpt'}'" in capsys.readouterr().err
    assert [signal.getsignal(n) for n in SIGNALS] == before
    assert own_fit(tmp_path, *saved_by()).seen == whole[3:]


def test_ones_own_trainer_tells_of_a_signal_too_late_to_stop_it_after_the_end(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        own_fit(tmp_path, Signals("on_train_epoch_end", 0, signal.SIGINT), LastCheckpoint(str(tmp_path), 100))
    assert torch.load(tmp_path / "last.ckpt", weights_only=False)["global_step"] == 8


def test_ones_own_trainer_gives_the_handlers_back_when_training_fails(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            raise ZeroDivisionError

    before = [signal.getsignal(n) for n in SIGNALS]
    with pytest.raises(ZeroDivisionError):
        own_fit(tmp_path, Fails())
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_the_workers_of_a_loader_outlive_an_interrupt_from_the_terminal(tmp_path: Path) -> None:
    assert len(own_fit(tmp_path, data=Numbers(signal.SIGINT)).seen) == 8 + 1


def test_lightning_keeps_the_signals_that_it_requeues_slurm_jobs_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def trainer(environment: Any) -> Any:
        return SimpleNamespace(_accelerator_connector=SimpleNamespace(cluster_environment=environment))

    assert signals_to_take(trainer(SLURMEnvironment(auto_requeue=True))) == (signal.SIGINT,)
    assert signals_to_take(trainer(SLURMEnvironment(auto_requeue=False))) == SIGNALS
    assert signals_to_take(trainer(None)) == SIGNALS
