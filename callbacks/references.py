"""FillReference: computes the log-probs of a stored reference before training starts."""

from __future__ import annotations

from itertools import chain

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import track
from rich.text import Text


class FillReference(Callback):
    """Runs the reference model once over every distinct response and stores its log-probs.

    Training then needs no reference model in memory. Live references are left as they are.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any(reference.only_at_start for reference in pl_module.references()):  # type: ignore[operator]
            trainer.datamodule.setup("test")  # type: ignore[attr-defined]  # also the responses that are evaluated after training
        self._prepare(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:  # validation during training needs nothing new
            self._prepare(trainer, pl_module)

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loaders = trainer.datamodule.every_loader()  # type: ignore[attr-defined]
        total = sum(map(len, loaders))
        for reference in pl_module.references():  # type: ignore[operator]
            if trainer.num_nodes > 1:
                reference.over_hosts()
            batches = chain.from_iterable(loaders)
            watched = track(batches, "reference log-probs", total, transient=True, disable=not trainer.is_global_zero)
            with trainer.precision_plugin.forward_context():  # the precision of a live reference in a training step
                summary = reference.prepare(watched, pl_module.device, pl_module.untrained_policy())  # type: ignore[operator]
            if summary and trainer.is_global_zero:
                Console().print(Text(summary), soft_wrap=True)
        trainer.strategy.barrier()  # every rank stores its share

    on_test_start = on_predict_start = _prepare
