"""Best-of-N selection as a validation metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lightning import LightningModule, Trainer

from callbacks.collected import Collected
from lit_prm.evaluation.aggregates import refuse_unknown_aggregates
from lit_prm.evaluation.artifacts import write_judgement
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored
from lit_prm.evaluation.evaluate import Judgement, judge
from lit_prm.evaluation.vote_weights import Sigmoid, VoteWeight


class BestOfN(Collected):
    """Evaluates best-of-N selection on every candidate set at validation and test; writes scores and a figure.

    Works with any LightningModule that returns the rewards of steps; see ``Collected``. Logged for N = 1, 2, 4, ... K:
    ``bon/<set>/acc@N`` (by the first of ``aggregates``), ``vote/<set>/acc@N``, ``majority/<set>/acc@N`` and
    ``any/<set>/acc@N``; the same with the scorer's name before ``acc`` for every aggregate and baseline; each with
    ``/low`` and ``/high`` of a 95 % interval; and, without an interval, by subject and level. So
    ``ModelCheckpoint(monitor="bon/validation/acc@16", mode="max")`` works.
    """

    def __init__(
        self, folder: str, aggregates: Sequence[str] = ("min", "sum", "mean"), weight: VoteWeight | None = None
    ) -> None:
        super().__init__()
        refuse_unknown_aggregates(aggregates)  # here, before the first validation
        self.folder = Path(folder)
        self.aggregates = tuple(aggregates)
        self.weight = weight or Sigmoid()

    def judge_sets(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, scored: Sequence[tuple[CandidateSet, Scored]]
    ) -> None:
        for candidates, rewards in scored:
            judgement = judge(candidates, rewards, self.aggregates, self.weight)
            record(trainer, judgement.metrics)
            if trainer.is_global_zero:
                write_judgement(self.folder, judgement, candidates, rewards)
                if stage == "validate" and trainer.state.fn == "fit":
                    pl_module.print(f"update {trainer.global_step}: {summary(judgement)}")


def record(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    """Give metrics to the trainer's loggers, and to its callbacks on every rank, which may monitor them.

    The values must be equal on all ranks. ``LightningModule.log`` does the same, but takes 2 ms for each metric, and an
    evaluation has thousands. Metrics recorded here are in ``trainer.callback_metrics``, not in what ``trainer.test``
    returns.
    """
    values = torch.tensor([float(value) for value in metrics.values()]).tolist()  # in float32, as ``log`` keeps them
    found = dict(zip(metrics, values, strict=True))
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in found.items()})
    for logger in trainer.loggers:
        logger.log_metrics(found, step=trainer.global_step)


def summary(judgement: Judgement) -> str:
    """One line for the console, in percent: the monitored accuracy beside baselines that need no reward model."""
    n = 16 if 16 in judgement.counts else judgement.counts[-1]

    def percent(method: str, n: int) -> str:
        return f"{100 * judgement.metrics[f'{method}/{judgement.name}/acc@{n}']:.1f}"

    return (
        f"{judgement.name}: best of {n} {percent('bon', n)}, weighted vote {percent('vote', n)}, "
        f"majority {percent('majority', n)}, one at random {percent('bon', 1)}"
    )
