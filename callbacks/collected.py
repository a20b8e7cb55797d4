"""Outputs of validation and test steps, gathered over batches and ranks: one array entry per response."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.checkpoint import of_all_ranks
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored
from lit_prm.training.outputs import Scores, as_scores


class Collected(Callback):
    """Collects the step rewards of every candidate set and calls ``judge_sets`` with all of them, on every rank.

    The LightningModule returns ``Scores``, or a mapping as ``lit_prm.training.outputs`` describes it, from
    ``validation_step`` and ``test_step``. The data module has ``candidates(stage)``, as ``RolloutDataModule`` has.
    Responses are gathered over ranks by their row, so their order and repetition do not matter. ``judge_sets`` is
    not called in a fast_dev_run and in the sanity check, where only a few batches of a set are scored.
    """

    def __init__(self) -> None:
        self._scores: list[Scores] = []

    @abstractmethod
    def judge_sets(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, scored: Sequence[tuple[CandidateSet, Scored]]
    ) -> None:
        """Evaluate the candidate sets of ``stage``, "validate" or "test", in the order of their loaders."""

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
        step = "test_step" if trainer.testing else "validation_step"
        scores = as_scores(outputs, f"{type(pl_module).__name__}.{step}")
        loader = torch.full_like(scores.row, dataloader_idx)
        self._scores.append(scores._replace(row=torch.stack([loader, scores.row], 1)))

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        stage = "test" if trainer.testing else "validate"
        scores = [s for of_rank in of_all_ranks(self._scores) for s in of_rank]
        sets = self._sets(trainer, stage)
        of_loader = [[s for s in scores if int(s.row[0, 0]) == loader] for loader in range(len(sets))]
        self.judge_sets(trainer, pl_module, stage, [(c, by_row(c, of)) for c, of in zip(sets, of_loader, strict=True)])

    on_test_epoch_end = on_validation_epoch_end

    def _sets(self, trainer: Trainer, stage: str) -> list[CandidateSet]:
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "candidates"):
            raise ValueError(
                f"{type(self).__name__} needs the problems and answers of the candidate sets, and the trainer's data "
                f"module is {type(data).__name__}, which has no candidates({stage!r}). Pass datamodule="
                "RolloutDataModule(...), or a data module with a method candidates(stage) that returns CandidateSets."
            )
        sets: list[CandidateSet] = data.candidates(stage)
        return sets


def by_row(candidates: CandidateSet, collected: Sequence[Scores]) -> Scored:
    """One array entry per distinct response, whichever batch and rank it came from; raises if one is missing."""
    count = len(candidates.encoded)
    width = max((s.steps.shape[1] for s in collected), default=1)
    seen = np.zeros(count, dtype=bool)
    wide = (count, width)
    out = Scored(np.zeros(count), np.zeros(wide), np.zeros(wide, bool), np.zeros(wide), np.zeros(wide, bool))
    for scores in collected:
        rows, steps = scores.row[:, 1].numpy(), scores.steps.shape[1]
        seen[rows] = True
        out.reward[rows] = scores.reward.double().numpy()
        for name in ("steps", "valid", "reference_steps", "reference_valid"):
            getattr(out, name)[rows, :steps] = getattr(scores, name).double().numpy()
    if not seen.all():
        raise RuntimeError(
            f"Candidate set {candidates.name!r}: {int((~seen).sum())} of {count} responses were not scored. "
            "Remove trainer.limit_val_batches and limit_test_batches; use data.limit_candidates instead."
        )
    return out
