"""Fills a stored reference before training starts."""

from __future__ import annotations

from itertools import chain

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import track
from rich.text import Text


class FillReference(Callback):
    """One pass of the reference over every distinct response, so that training needs none in memory."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any(reference.only_at_start for reference in pl_module.references()):  # type: ignore[operator]
            trainer.datamodule.setup("test")  # type: ignore[attr-defined]  # what is judged when training has ended
        self._prepare(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:  # not one within training, which has read them all
            self._prepare(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._prepare(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._prepare(trainer, pl_module)

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loaders = trainer.datamodule.every_loader()  # type: ignore[attr-defined]
        total = sum(map(len, loaders))
        for reference in pl_module.references():  # type: ignore[operator]
            if trainer.num_nodes > 1:
                reference.over_hosts()
            batches = chain.from_iterable(loaders)
            shown = track(batches, "reference log-probs", total, transient=True, disable=not trainer.is_global_zero)
            with trainer.precision_plugin.forward_context():  # as a live reference would compute in a step
                told = reference.prepare(shown, pl_module.device, pl_module.untrained_policy())  # type: ignore[operator]
            if told and trainer.is_global_zero:
                Console().print(Text(told), soft_wrap=True)
        trainer.strategy.barrier()  # each rank fills its share of the store
