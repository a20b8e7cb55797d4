"""RefuseNonfinite: stops training when the loss or the gradient norm is NaN or infinite, and saves the batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from lit_prm.data.batch import OF_A_RESPONSE, Batch
from lit_prm.models.values import response_rewards
from lit_prm.storage.atomic import written_whole

_ABOUT = (
    "The batch of one rank for an update that was not made. torch.load(FILE)['batches'] holds its micro-batches; "
    "response i is tokenizer.decode(ids[i, prompt_length[i]:length[i]]), rewards[i] its reward before the update."
)

_SCALED = ("16-mixed", "16-true")  # precisions whose gradient scaler itself skips an update that overflows


class RefuseNonfinite(Callback):
    """Stops training on all ranks before an update whose loss or gradient norm is NaN or infinite.

    Such an update would ruin every weight and the next checkpoint. Rank 0 saves its batch in
    ``<folder>/bad-batch.pt``, rank r > 0 in ``bad-batch-rank<r>.pt``. One number per update is read from the device.
    DeepSpeed does not show its gradients and skips such an update itself, so its gradient norm is checked afterwards.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._batches: list[Batch] = []  # micro-batches of the current update
        self._losses: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._batches, self._losses = [], []
        self._batches.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.strategy.handles_gradient_accumulation and len(self._losses) < trainer.accumulate_grad_batches:
            return  # DeepSpeed calls this hook for every micro-batch
        loss = torch.stack(self._losses).sum()
        norm = _gradient_norm(trainer, pl_module)
        if norm is not None:
            pl_module.log("train/grad_norm", norm, rank_zero_only=True)
        bad = ~torch.isfinite(loss if norm is None else loss + norm)
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce(bad.int(), reduce_op="max")
        if bad:
            self._refuse(trainer, pl_module, trainer.global_step + 1, None if norm is None else float(norm))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        norm = getattr(trainer.strategy, "gradient_norm", None)  # of the strategy ZeRO; equal on all ranks
        if norm is None or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        pl_module.log("train/grad_norm", norm, rank_zero_only=True)
        if not math.isfinite(norm) and trainer.precision not in _SCALED:
            self._refuse(trainer, pl_module, trainer.global_step, norm)

    def _refuse(self, trainer: Trainer, pl_module: LightningModule, update: int, norm: float | None) -> None:
        """Save the batch of the update and raise ValueError."""
        values = {"loss": float(torch.stack(self._losses).sum()) / trainer.world_size, "gradient norm": norm}
        file = self.folder / ("bad-batch.pt" if trainer.is_global_zero else f"bad-batch-rank{trainer.global_rank}.pt")
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            batches = [_plain(batch, pl_module(batch)) for batch in self._batches]
        content = {"about": _ABOUT, "update": update, **values, "batches": batches}
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as partial:
            torch.save(content, partial)
        beta = getattr(pl_module.reward_model, "beta", None)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        raise ValueError(
            f"the training loss is {values['loss']}, the gradient norm {values['gradient norm']} at update {update}, "
            f"with learning rate {rate:.3g} and beta {beta}. The update was not made; the last checkpoint is intact. "
            f"{file} holds the batch. Lower the learning rate or beta in another --run_dir, or remove the batch's "
            "responses from the data."
        )


def _gradient_norm(trainer: Trainer, pl_module: LightningModule) -> Tensor | None:
    """Norm of the gradients of all weights; None if DeepSpeed keeps them or a gradient scaler checks them itself."""
    gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
    if not gradients or trainer.precision in _SCALED:
        return None
    return torch.nn.utils.get_total_norm(gradients)


def _plain(batch: Batch, values: Tensor) -> dict[str, Any]:
    """The tensors of a micro-batch on the CPU, with the rewards of its responses [B]."""
    tensors = {name: cast(Tensor, getattr(batch, name)).cpu() for name in OF_A_RESPONSE}
    return {**tensors, "rewards": response_rewards(values, batch.length).cpu()}
