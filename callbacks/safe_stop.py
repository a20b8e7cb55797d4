"""SafeStop: a signal ends a run between two updates, with everything saved."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.progress import _ProcessedTracker

from callbacks.checkpoint import LastCheckpoint, update_follows
from callbacks.stop_signals import Stopped, StopSignals, signals_to_take


class SafeStop(Checkpoint):
    """Ctrl-C, SIGTERM and SIGUSR1 end training after the current update: saved, marked KILLED, ``Stopped`` raised.

    Works in any Trainer. ``Stopped`` is a ``SystemExit`` whose code is 128 + the signal's number. Every
    ``LastCheckpoint`` of the trainer saves; without one, SafeStop writes ``<default_root_dir>/last.ckpt``. Start the
    same training again with ``trainer.fit(..., ckpt_path=...)``.

    The signal handler only takes a note. All ranks agree after every update and validation batch whether one of
    them received a signal, so they stop together. An interrupted validation starts again from its first batch when
    the run is resumed. Before training (reading data, labelling, the reference pass) and in validate, test and
    predict the signal stops the run at once: every finished part is in a file already. So does a second Ctrl-C.

    SafeStop is a ``Checkpoint`` so that Lightning calls it after all other callbacks. Lightning then adds no
    ``ModelCheckpoint`` of its own: list ``LastCheckpoint`` (before SafeStop) or a ``ModelCheckpoint`` to keep
    checkpoints of a run that nobody stops.

    The handlers are in place from ``setup`` to ``teardown``, or inside ``listening``. In a SLURM job that Lightning
    requeues, SafeStop handles Ctrl-C alone.
    """

    def __init__(self) -> None:
        self.signals = StopSignals()
        self._managed = False  # inside ``listening``
        self._updates = 0  # number of updates after which signals were checked
        self._common: list[int] = []  # number of batches that every rank has, by validation set
        self._validation_broken_off = False

    @contextmanager
    def listening(self, trainer: Trainer) -> Iterator[None]:
        """Handle signals for the whole block; one that came too late to stop anything raises at its end."""
        self.signals.start(trainer)
        self._managed = True
        try:
            yield
            self._raise_if_received()
        finally:
            self.signals.end()
            self._managed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self._managed:
            self.signals.start(trainer, signals_to_take(trainer))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self._managed:
            self.signals.end()
            self._raise_if_received()  # a signal that came too late to stop anything

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not self._managed:
            if restored := trainer._signal_connector._original_handlers:  # Lightning puts these back next
                restored.update(self.signals.before)
            self.signals.end()

    def _raise_if_received(self) -> None:
        if self.signals.received is not None:
            raise Stopped(self.signals.received)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.take()
        self.signals.deferred, self._updates = True, trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._updates:  # within an update
            return
        self._updates = trainer.global_step
        if update_follows(trainer) and self._agreed(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.deferred = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.take()
        if not self.signals.deferred:
            return
        done = cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.val_loop.batch_progress.total)
        done.ready = done.started = done.processed = done.completed  # without the batch that was interrupted
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
        if self.signals.deferred and batch_idx < self._common[dataloader_idx]:
            self._break_off_if_agreed(trainer)

    def _break_off_if_agreed(self, trainer: Trainer) -> None:
        self._validation_broken_off = self._agreed(trainer)
        if self._validation_broken_off:
            self._stop(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._validation_broken_off:  # else Lightning, resumed, would skip a validation that was begun
            loop = checkpoint["loops"]["fit_loop"]
            counts = loop["epoch_loop.val_loop.batch_progress"]
            for which, first in (("total", counts["total"]["completed"]), ("current", 0)):
                counts[which] |= {"ready": first + 1, "started": first + 1, "processed": first, "completed": first}
            counts["is_last_batch"] = False

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.take()

    on_predict_start = on_test_start

    def _agreed(self, trainer: Trainer) -> bool:
        """True on all ranks if any rank received a signal; every rank must call it."""
        number = torch.tensor(self.signals.received or 0, device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            number = trainer.strategy.reduce(number, reduce_op="max")
        agreed = int(number)
        if agreed:  # otherwise keep ``received``: a signal may have come during the reduction
            self.signals.received = agreed
        return agreed != 0

    def _stop(self, trainer: Trainer) -> NoReturn:
        """Save what is not saved yet, and raise, on every rank."""
        savers = [c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)]
        for last in savers:
            if self._validation_broken_off or not last.has_saved(trainer):
                last.save(trainer)
        files = [last.path for last in savers]
        if not savers:
            files = [str(Path(trainer.default_root_dir) / "last.ckpt")]
            trainer.save_checkpoint(files[0], weights_only=False)
        if not self._managed and trainer.is_global_zero:
            print(f"stopped after update {trainer.global_step}; go on with ckpt_path={files[0]!r}", file=sys.stderr)
        raise Stopped(cast(int, self.signals.received))
