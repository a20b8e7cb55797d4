"""RefuseNonfinite: no update by what is no number; the batch that caused it is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from lit_prm.data.batch import Batch
from lit_prm.models.values import response_rewards
from lit_prm.storage.atomic import written_whole

_ABOUT = (
    "what one rank read for an update that was not made: torch.load(FILE)['batches'] holds its micro-batches; response "
    "i is tokenizer.decode(ids[i, prompt_length[i]:length[i]]), rewards[i] its reward by the weights before the update"
)


_SCALED = ("16-mixed", "16-true")  # whose scaler passes over updates that overflow itself


class RefuseNonfinite(Callback):
    """Ends training on all ranks together before an update whose loss or gradient is no number.

    Such an update would spoil every weight and the next checkpoint. Each rank keeps what it read for it in
    ``<folder>/bad-batch.pt``, rank r > 0 in ``bad-batch-rank<r>.pt``. One number is read from the device per update.
    DeepSpeed keeps gradients to itself and passes over an update by what is no number: its norm is looked at behind it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._batches: list[Batch] = []  # of the update under way
        self._losses: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._batches, self._losses = [], []
        self._batches.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.strategy.handles_gradient_accumulation and len(self._losses) < trainer.accumulate_grad_batches:
            return  # DeepSpeed is handed every micro-batch
        loss = torch.stack(self._losses).sum()
        norm = _gradient_norm(trainer, pl_module)
        if norm is not None:
            pl_module.log("train/grad_norm", norm, rank_zero_only=True)
        bad = ~torch.isfinite(loss if norm is None else loss + norm)
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce(bad.int(), reduce_op="max")
        if bad:
            found = {"loss": float(loss) / trainer.world_size, "gradient norm": None if norm is None else float(norm)}
            self._refuse(trainer, pl_module, trainer.global_step + 1, found)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        norm = getattr(trainer.strategy, "gradient_norm", None)  # of ZeRO, the same on all ranks
        if norm is None or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        pl_module.log("train/grad_norm", norm, rank_zero_only=True)
        if not math.isfinite(norm) and trainer.precision not in _SCALED:
            found = {"loss": float(torch.stack(self._losses).sum()) / trainer.world_size, "gradient norm": norm}
            self._refuse(trainer, pl_module, trainer.global_step, found)

    def _refuse(
        self, trainer: Trainer, pl_module: LightningModule, update: int, found: dict[str, float | None]
    ) -> None:
        file = self.folder / ("bad-batch.pt" if trainer.is_global_zero else f"bad-batch-rank{trainer.global_rank}.pt")
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            batches = [_plain(batch, pl_module(batch)) for batch in self._batches]
        kept = {"about": _ABOUT, "update": update, **found, "batches": batches}
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as partial:
            torch.save(kept, partial)
        beta = getattr(pl_module.reward_model, "beta", None)
        raise ValueError(
            f"the training loss is {found['loss']}, the gradient norm {found['gradient norm']} at update "
            f"{update}, with learning rate {trainer.optimizers[0].param_groups[0]['lr']:.3g} and beta {beta}; the "
            f"update was not made and the last checkpoint is intact; {file} holds its batch; lower the learning rate "
            "or beta in another --run_dir, or take the batch's responses out"
        )


def _gradient_norm(trainer: Trainer, pl_module: LightningModule) -> Tensor | None:
    """Of all weights; None where the engine keeps gradients, or a scaler its own eye on them."""
    gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
    if not gradients or trainer.precision in _SCALED:
        return None
    return torch.nn.utils.get_total_norm(gradients)


def _plain(batch: Batch, values: Tensor) -> dict[str, Any]:
    """What there is to see of a micro-batch, with the rewards of its responses [B]."""
    seen = ("ids", "length", "prompt_length", "step", "labels", "step_labels", "group", "row")
    shown = {name: cast(Tensor, getattr(batch, name)).cpu() for name in seen}
    return {**shown, "rewards": response_rewards(values, batch.length).cpu()}
