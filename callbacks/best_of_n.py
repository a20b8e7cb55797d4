"""Best-of-N selection as a validation metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_prm.candidates import CandidateSet
from lit_prm.diagnosis import Scored
from lit_prm.judging import Judgement, judge
from lit_prm.module import Scores
from lit_prm.recording import write_judgement
from lit_prm.selection import Sigmoid, VoteWeight, refuse_unknown_aggregates


class BestOfN(Callback):
    """Judges every candidate set at validation and test, logs the results and keeps scores and a figure.

    Logged for N = 1, 2, 4, ... K: ``bon/<set>/acc@N`` (by the first of ``aggregates``),
    ``vote/<set>/acc@N``, ``majority/<set>/acc@N``, ``any/<set>/acc@N``; the same with the scorer's name before
    ``acc`` for every aggregate and baseline, with ``/low`` and ``/high`` of a 95 % interval; and, without one, by
    subject and level. So ``ModelCheckpoint(monitor="bon/validation/acc@16", mode="max")`` works.

    A fast_dev_run and the sanity check before training judge nothing.
    Responses are gathered over ranks by their row, so their order and repetition do not matter.
    """

    def __init__(
        self, folder: str, aggregates: Sequence[str] = ("min", "sum", "mean"), weight: VoteWeight | None = None
    ) -> None:
        refuse_unknown_aggregates(aggregates)  # now, not at the first validation
        self.folder = Path(folder)
        self.aggregates = tuple(aggregates)
        self.weight = weight or Sigmoid()
        self._collected: list[Scores] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collected = []

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(outputs, dataloader_idx)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._judge(trainer, pl_module, "validate")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._judge(trainer, pl_module, "test")

    def _collect(self, outputs: Scores, loader: int) -> None:
        scores = Scores(*(t.detach().cpu() for t in outputs))
        self._collected.append(scores._replace(row=torch.stack([torch.full_like(scores.row, loader), scores.row], 1)))

    def _judge(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return  # a few batches are no candidate set
        collected = _over_ranks(self._collected)
        for loader, candidates in enumerate(trainer.datamodule.candidates(stage)):  # type: ignore[attr-defined]
            scored = by_row(candidates, [s for s in collected if int(s.row[0, 0]) == loader])
            judgement = judge(candidates, scored, self.aggregates, self.weight)
            metrics = {name: float(value) for name, value in judgement.metrics.items()}
            # equal on every rank, and there for the monitor of every rank's checkpoint callback
            pl_module.log_dict(metrics, sync_dist=trainer.world_size > 1)
            if trainer.is_global_zero:
                write_judgement(self.folder, judgement, candidates, scored)
                if stage == "validate" and trainer.state.fn == "fit":
                    pl_module.print(f"update {trainer.global_step}: {told(judgement)}")


def told(judgement: Judgement) -> str:
    """One line to watch while training: the monitored accuracy beside what needs no model, in percent."""
    n = 16 if 16 in judgement.counts else judgement.counts[-1]

    def percent(method: str, n: int) -> str:
        return f"{100 * judgement.metrics[f'{method}/{judgement.name}/acc@{n}']:.1f}"

    return (
        f"{judgement.name}: best of {n} {percent('bon', n)}, weighted vote {percent('vote', n)}, "
        f"majority {percent('majority', n)}, one at random {percent('bon', 1)}"
    )


def by_row(candidates: CandidateSet, collected: Sequence[Scores]) -> Scored:
    """One array entry per distinct response, whatever batch and rank it came from; a missing one is an error."""
    count = len(candidates.encoded)
    width = max((s.steps.shape[1] for s in collected), default=1)
    seen = np.zeros(count, dtype=bool)
    wide = (count, width)
    out = Scored(np.zeros(count), np.zeros(wide), np.zeros(wide, bool), np.zeros(wide), np.zeros(wide, bool))
    for scores in collected:
        rows, steps = scores.row[:, 1].numpy(), scores.steps.shape[1]
        seen[rows] = True
        out.reward[rows] = scores.reward.double().numpy()
        out.steps[rows, :steps] = scores.steps.double().numpy()
        out.valid[rows, :steps] = scores.valid.numpy()
        out.reference_steps[rows, :steps] = scores.reference_steps.double().numpy()
        out.reference_valid[rows, :steps] = scores.reference_valid.numpy()
    if not seen.all():
        raise RuntimeError(
            f"candidate set {candidates.name!r}: {int((~seen).sum())} of {count} responses were not scored; "
            "remove trainer.limit_val_batches and limit_test_batches, use data.limit_candidates instead"
        )
    return out


def _over_ranks(collected: list[Scores]) -> list[Scores]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return collected
    gathered: list[list[Scores] | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, collected)
    return [scores for part in gathered if part is not None for scores in part]
