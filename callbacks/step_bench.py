"""ProcessBench during training: is the first wrong step found, by a threshold chosen on another set?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning import LightningModule, Trainer

from callbacks.collected import Collected
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored
from lit_prm.evaluation.first_error import Known
from lit_prm.reports.processbench.protocol import Judged, choose_threshold, judge_subset
from lit_prm.reports.processbench.subset import Labels, StepScores

__all__ = ["StepBench"]


class StepBench(Collected):
    """Judges the candidate sets whose first wrong steps are known by the protocol of ProcessBench.

    Logged at validation and test: ``processbench/<set>/f1``, ``error_acc``, ``correct_acc``, ``threshold`` and
    ``step_auc``, by step rewards; so ``ModelCheckpoint(monitor="processbench/math/f1", mode="max")`` works. The
    threshold is chosen on the set named ``choose`` and applied to the others. A set has no threshold from elsewhere
    when it is that set, or is judged without it (among other sets at test, say): then each half of its problems is
    judged by the best threshold of the other half, and ``threshold`` is the best on both.

    ``sets`` names some of them, by default all that have labels of steps. Sets without right or without wrong
    responses have no F1, and a model that scores only last steps, or tokens, has none to look at.
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
                f"StepBench: {', '.join(unknown)} are no sets of data.validation or data.test, "
                f"these are: {', '.join(known) or 'none'}; name some of them"
            )

    def judge_sets(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, scored: Sequence[tuple[CandidateSet, Scored]]
    ) -> None:
        found = {candidates.name: of for candidates, s in scored if (of := labelled_steps(candidates, s)) is not None}
        for name, judged in judge_named(found, self.choose).items():
            if self.sets is None or name in self.sets:
                pl_module.log_dict(_metrics(name, judged), sync_dist=trainer.world_size > 1)


def labelled_steps(candidates: CandidateSet, scored: Scored) -> tuple[StepScores, Labels] | None:
    """The step rewards of the responses whose first wrong step is known; None without any, or where steps lack them."""
    known = Known.of(candidates.groups)
    if not len(known.at) or not candidates.own_steps or not np.array_equal(scored.valid, scored.reference_valid):
        return None
    rows = candidates.source[known.at]
    rollouts = [r for group in candidates.groups for r in group.rollouts]
    sizes = np.array([len(rollouts[i].steps or ()) for i in known.at], dtype=np.intp)
    return StepScores(scored.steps[rows], scored.valid[rows], sizes), Labels(known.first_error, known.problem)


def judge_named(sets: dict[str, tuple[StepScores, Labels]], choose: str | None) -> dict[str, Judged]:
    """Every set by the threshold of ``choose``; it itself, and all where it has no threshold to give, by halves."""
    best = {name: choose_threshold(scores, labels) for name, (scores, labels) in sets.items()}
    elsewhere = best.get(choose or "", float("nan"))
    out = {}
    for name, (scores, labels) in sets.items():
        here = np.isnan(elsewhere) or name == choose
        out[name] = judge_subset(scores, labels, best[name] if here else elsewhere, chosen_here=bool(here))
    return out


def _metrics(name: str, judged: Judged) -> dict[str, float]:
    found = judged.cross_fitted if judged.chosen_here else judged.found
    numbers = {"threshold": judged.threshold, "step_auc": judged.auc}
    if found is not None:
        numbers |= {"f1": found.hits.f1, "error_acc": found.hits.error_acc, "correct_acc": found.hits.correct_acc}
    return {f"processbench/{name}/{key}": value for key, value in numbers.items() if not np.isnan(value)}
