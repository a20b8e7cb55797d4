"""What validation and test steps hand out, gathered over batches and ranks into one array entry per response."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored
from lit_prm.training.module import Scores


class Collected(Callback):
    """Collects the step rewards of every candidate set and hands them over, whole and on every rank, at the end.

    A fast_dev_run and the sanity check before training hand over nothing: a few batches are no candidate set.
    Responses are gathered over ranks by their row, so their order and repetition do not matter.
    """

    def __init__(self) -> None:
        self._scores: list[Scores] = []

    @abstractmethod
    def judge_sets(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, scored: Sequence[tuple[CandidateSet, Scored]]
    ) -> None:
        """Look at the sets of "validate" or "test", in the order of their loaders."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._scores = []

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
        self._hand_over(trainer, pl_module, "validate")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hand_over(trainer, pl_module, "test")

    def _collect(self, outputs: Scores, loader: int) -> None:
        scores = Scores(*(t.detach().cpu() for t in outputs))
        self._scores.append(scores._replace(row=torch.stack([torch.full_like(scores.row, loader), scores.row], 1)))

    def _hand_over(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        scores = _over_ranks(self._scores)
        sets: list[CandidateSet] = trainer.datamodule.candidates(stage)  # type: ignore[attr-defined]
        of_loader = [[s for s in scores if int(s.row[0, 0]) == loader] for loader in range(len(sets))]
        self.judge_sets(trainer, pl_module, stage, [(c, by_row(c, of)) for c, of in zip(sets, of_loader, strict=True)])


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
