"""One checkpoint to go on from, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from lit_prm.storage.atomic import remove_leftovers, written_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint file is complete whenever it exists, also after a power cut; one that cannot be written raises.

    Lightning's own writer holds the whole file in memory first and passes over a folder it may not write in.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)  # each as large as a checkpoint; the run's lock keeps other writers away
        with written_whole(target) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)


class LastCheckpoint(Checkpoint):
    """Saves ``<folder>/last.ckpt`` every ``every_n_updates`` updates and when training ends.

    The last one holds what other callbacks learnt from the last validation. With the seeded order of updates
    and the states of all ranks' generators kept here, a run killed at any moment and started again ends with the
    weights of one never killed, bit for bit on CPU. It is never saved within an update, whose gradients so far no
    file holds.
    """

    def __init__(self, folder: str, every_n_updates: int = 50) -> None:
        if every_n_updates < 1:
            raise ValueError(f"every_n_updates {every_n_updates} is not at least 1")
        self.path = str(Path(folder) / "last.ckpt")
        self.every_n_updates = every_n_updates
        self._saved_at = -1
        self._updates = 0  # done when the last batch ended
        self._waits = False  # for the end of a validation
        self._generator: torch.Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._updates = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._generator is not None:  # as late as this: building loaders draws from the generator
            torch.set_rng_state(self._generator)
            self._generator = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._updates:  # part of an update
            return
        self._updates = trainer.global_step
        if trainer.global_step % self.every_n_updates == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if update_follows(trainer):
                self.save(trainer)
            else:  # a run stopped in that validation must do it again
                self._waits = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits:  # no validation came
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        now = torch.get_rng_state() if self._generator is None else self._generator  # which still waits for a batch
        return {"generators": of_all_ranks(now)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["generators"]
        # ranks that were not there begin anew: at another number of processes batches are others, too
        self._generator = states[rank] if (rank := _rank()) < len(states) else None

    def has_saved(self, trainer: Trainer) -> bool:
        """Whether the last save was after the last update."""
        return self._saved_at == trainer.global_step

    def save(self, trainer: Trainer) -> None:
        """Save now, on every rank."""
        self._saved_at, self._waits = trainer.global_step, False
        trainer.save_checkpoint(self.path, weights_only=False)


def of_all_ranks(state: torch.Tensor) -> list[torch.Tensor]:
    """One tensor of every rank; all must ask."""
    if not torch.distributed.is_initialized():
        return [state]
    states: list[torch.Tensor] = [state] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def update_follows(trainer: Trainer) -> bool:
    """Whether the trainer goes from this training batch to the next, not to a validation or the epoch's end."""
    loop = trainer.fit_loop
    validates = loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
    return not (validates or loop.epoch_loop._is_training_done)
