"""SafeStop: a signal ends a run between two updates, with everything saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.checkpoint import LastCheckpoint, update_follows

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(SIGTERMException):
    """A signal ended the run; the exit status is 128 + its number: 130, 138 (USR1) or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class SafeStop(Checkpoint):
    """Ctrl-C, SIGTERM and SIGUSR1 end training after the update under way: saved, marked KILLED, ``Stopped``.

    The handler only takes a note. All ranks agree after every update and validation batch whether one of them
    was signalled, so they stop together. A validation that was broken off is done again, from its first batch,
    when the run goes on. Outside training (labelling, the reference pass, judging) every finished part is in a
    file already, and the signal stops at once; so does a second Ctrl-C anywhere.

    A ``Checkpoint``, so that Lightning calls it after all callbacks that learn from an update. Listed after
    ``LastCheckpoint``, which does the saving.
    """

    def __init__(self) -> None:
        self.asked: int | None = None  # the signal's number
        self._training = False
        self._updates = 0  # that were looked at
        self._common: list[int] = []  # batches that every rank has, by validation set
        self._validation_broken_off = False
        self._handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {}  # while listening

    @contextmanager
    def listening(self, trainer: Trainer) -> Iterator[None]:
        """Signals are this callback's inside; one that came too late to stop the work raises at its end."""
        if threading.current_thread() is not threading.main_thread():  # Python hands signals to the main thread only
            yield
            return
        self.asked, process = None, os.getpid()

        def note(number: int, _: FrameType | None) -> None:
            if os.getpid() != process:  # a worker forked from this one
                raise Stopped(number)
            again, self.asked = self.asked is not None, self.asked or number
            if number != signal.SIGINT and not again and trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)  # a terminal tells every rank
            if (again and number == signal.SIGINT) or not (again or self._training):
                raise Stopped(number)

        heard = (number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)
        before = {number: signal.getsignal(number) for number in heard}
        self._handlers = dict.fromkeys(before, note)
        self._take_signals()
        try:
            yield
            if self.asked is not None:
                raise Stopped(self.asked)
        finally:
            self._training, self._handlers = False, {}
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take_signals(self) -> None:
        """Lightning puts a handler before ours that speaks to other ranks from within whatever they do."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    # --- training -----------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_signals()
        self._training, self._updates = True, trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._updates:  # half an update
            return
        self._updates = trainer.global_step
        if update_follows(trainer) and self._agreed(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False

    # --- validation, within training ------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_signals()
        if not self._training:
            return
        done = cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.val_loop.batch_progress.total)
        done.ready = done.started = done.processed = done.completed  # without the one that was broken off
        batches = torch.tensor(trainer.num_val_batches, device=trainer.strategy.root_device)
        self._common = trainer.strategy.reduce(batches, reduce_op="min").tolist()
        self._break_off_if_agreed(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._training and batch_idx < self._common[dataloader_idx]:
            self._break_off_if_agreed(trainer)

    def _break_off_if_agreed(self, trainer: Trainer) -> None:
        self._validation_broken_off = self._agreed(trainer)
        if self._validation_broken_off:
            self._stop(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._validation_broken_off:  # tell Lightning so, which skips a validation that was begun
            loop = checkpoint["loops"]["fit_loop"]
            counts = loop["epoch_loop.val_loop.batch_progress"]
            for which, first in (("total", counts["total"]["completed"]), ("current", 0)):
                counts[which] |= {"ready": first + 1, "started": first + 1, "processed": first, "completed": first}
            counts["is_last_batch"] = False

    # --- judging ---------------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_signals()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_signals()

    # --- both -------------------------------------------------------------------------------------------

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether any rank was signalled; the same on all ranks, which must all ask."""
        asked = torch.tensor(self.asked or 0, device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce(asked, reduce_op="max")
        agreed = int(asked)
        if agreed:  # else ``asked`` is left alone: a signal may have come while the others were waited for
            self.asked = agreed
        return agreed != 0

    def _stop(self, trainer: Trainer) -> NoReturn:
        """Save what is not saved yet, and raise, on every rank."""
        for last in trainer.checkpoint_callbacks:
            if isinstance(last, LastCheckpoint) and (self._validation_broken_off or not last.has_saved(trainer)):
                last.save(trainer)
        raise Stopped(cast(int, self.asked))
