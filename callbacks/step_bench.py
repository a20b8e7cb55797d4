"""ProcessBench during training: does the first step reward below a threshold mark the first wrong step?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning import LightningModule, Trainer

from callbacks.collected import Collected
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored
from lit_prm.evaluation.first_error import Known
from lit_prm.reports.processbench.protocol import Judged, choose_threshold, judge_subset
from lit_prm.reports.processbench.subset import StepScores


class StepBench(Collected):
    """Evaluates candidate sets whose first wrong steps are labelled, by the protocol of ProcessBench.

    Logged at validation and test: ``processbench/<set>/f1``, ``error_acc``, ``correct_acc``, ``threshold`` and
    ``step_auc``, all from step rewards; so ``ModelCheckpoint(monitor="processbench/math/f1", mode="max")`` works.

    The threshold is chosen on the set named ``choose`` and applied to the other sets. The set ``choose`` itself, and
    every set that is evaluated without it, has no threshold from another set: then each half of its problems is
    evaluated by the best threshold of the other half, and ``threshold`` is the best one on both halves.

    ``sets`` names the sets to evaluate; the default is all sets with step labels. Sets without right or without wrong
    responses have no F1. Models that score only last steps, or that take every token as a step, log nothing.
    """

    def __init__(self, choose: str | None = None, sets: Sequence[str] | None = None) -> None:
        super().__init__()
        self.choose = choose
        self.sets = sets

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        of_stage: dict[str, dict[str, str]] = trainer.datamodule.sets  # type: ignore[attr-defined]
        known = {name: None for names in of_stage.values() for name in names}
        unknown = [name for name in (self.choose, *(self.sets or ())) if name is not None and name not in known]
        if unknown:
            raise ValueError(
                f"StepBench: {', '.join(unknown)} are no sets of data.validation or data.test. "
                f"The sets are: {', '.join(known) or 'none'}. Name some of them in choose and sets."
            )

    def judge_sets(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, scored: Sequence[tuple[CandidateSet, Scored]]
    ) -> None:
        named = {c.name: steps for c, rewards in scored if (steps := labelled_steps(c, rewards)) is not None}
        for name, judged in judge_named(named, self.choose).items():
            if self.sets is None or name in self.sets:
                pl_module.log_dict(_metrics(name, judged), sync_dist=trainer.world_size > 1)


def labelled_steps(candidates: CandidateSet, scored: Scored) -> tuple[StepScores, Known] | None:
    """Step rewards and labels where the first wrong step is known; None if nowhere, or if steps lack rewards."""
    known = Known.of(candidates.groups)
    if not len(known.at) or not candidates.own_steps or not np.array_equal(scored.valid, scored.reference_valid):
        return None
    rows = candidates.source[known.at]
    rollouts = [r for group in candidates.groups for r in group.rollouts]
    sizes = np.array([len(rollouts[i].steps or ()) for i in known.at], dtype=np.intp)
    return StepScores(scored.steps[rows], scored.valid[rows], sizes), known


def judge_named(sets: dict[str, tuple[StepScores, Known]], choose: str | None) -> dict[str, Judged]:
    """Evaluate every set by the threshold of the set ``choose``; ``choose`` itself, or all without one, by halves."""
    best = {name: choose_threshold(scores, labels) for name, (scores, labels) in sets.items()}
    threshold = best.get(choose or "", float("nan"))
    out = {}
    for name, (scores, labels) in sets.items():
        by_halves = np.isnan(threshold) or name == choose
        used = best[name] if by_halves else threshold
        out[name] = judge_subset(scores, labels, used, chosen_here=bool(by_halves))
    return out


def _metrics(name: str, judged: Judged) -> dict[str, float]:
    result = judged.cross_fitted if judged.chosen_here else judged.result
    numbers = {"threshold": judged.threshold, "step_auc": judged.auc}
    if result is not None:
        numbers |= {"f1": result.hits.f1, "error_acc": result.hits.error_acc, "correct_acc": result.hits.correct_acc}
    return {f"processbench/{name}/{key}": value for key, value in numbers.items() if not np.isnan(value)}
