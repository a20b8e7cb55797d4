"""The checkpoint that a run resumes from, written completely or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from lit_prm.storage.atomic import remove_leftovers, written_whole
from lit_prm.storage.checkpoint_files import read_checkpoint

Item = TypeVar("Item")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoint files that are complete whenever they exist, also after a power cut.

    A file that cannot be written is an error. Lightning's own plugin builds the whole file in memory first and
    silently skips a folder without write permission. A checkpoint is read with its checksums, and only if it holds
    nothing but tensors and plain values.
    """

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        return read_checkpoint(path, mmap=False)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)  # of killed saves, each as large as a checkpoint; the run's lock keeps others away
        with written_whole(target) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)


class LastCheckpoint(Checkpoint):
    """Saves ``<folder>/last.ckpt`` every ``every_n_updates`` updates and when training ends.

    The save at the end holds the state that other callbacks have after the last validation. The checkpoint holds
    the random generator of every rank, and the order of updates is seeded. So a run that was killed at any moment
    and started again ends with the same weights as an unbroken run, bit for bit on CPU. Nothing is saved within an
    update, because no file could hold the gradients so far.
    """

    def __init__(self, folder: str, every_n_updates: int = 50) -> None:
        if every_n_updates < 1:
            raise ValueError(f"every_n_updates is {every_n_updates}; it must be at least 1. Give 50, for example.")
        self.path = str(Path(folder) / "last.ckpt")
        self.every_n_updates = every_n_updates
        self._saved_at = -1
        self._updates = 0  # number of finished updates after the last batch
        self._waits = False  # True if the next save waits for the end of a validation
        self._generator: torch.Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._updates = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._generator is not None:  # only now: building loaders draws from the generator
            torch.set_rng_state(self._generator)
            self._generator = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._updates:  # within an update
            return
        self._updates = trainer.global_step
        if trainer.global_step % self.every_n_updates == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if update_follows(trainer):
                self.save(trainer)
            else:  # save after that validation: a run stopped in it must repeat it
                self._waits = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits:
            self.save(trainer)

    on_train_epoch_end = on_validation_end  # still waits if there was no validation

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        now = torch.get_rng_state() if self._generator is None else self._generator  # the loaded state, not yet in use
        return {"generators": of_all_ranks(now)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["generators"]
        # with more processes than before the new ranks keep their own state: their batches differ, too
        self._generator = states[rank] if (rank := _rank()) < len(states) else None

    def has_saved(self, trainer: Trainer) -> bool:
        """True if the last save was made after the last update."""
        return self._saved_at == trainer.global_step

    def save(self, trainer: Trainer) -> None:
        """Save the checkpoint now; every rank must call it."""
        self._saved_at, self._waits = trainer.global_step, False
        trainer.save_checkpoint(self.path, weights_only=False)


def of_all_ranks(value: Item) -> list[Item]:
    """The values of all ranks, in order; every rank must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def update_follows(trainer: Trainer) -> bool:
    """True if another training batch follows this one directly, without a validation or the epoch's end between."""
    loop = trainer.fit_loop
    validates = loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
    return not (validates or loop.epoch_loop._is_training_done)
