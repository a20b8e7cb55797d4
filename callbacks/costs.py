"""Counts what training reads and logs what the run cost, in tokens and FLOPs."""

from __future__ import annotations

from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from transformers import AutoConfig

from lit_prm.data.batch import Batch
from lit_prm.models.flops import Cost, Shape, Spent, Work, backward, forward, generated, labelled, of_earlier, shape_of
from lit_prm.models.reference import Frozen, Reference, Stored, Uniform
from lit_prm.models.reward_model import ImplicitReward, RewardModel
from lit_prm.storage.run_files import read_record

_COUNTS = ("trained", "mismatched", "distinct")


class Costs(Callback):
    """Logs ``cost/...`` at the end of every epoch, for the run up to there (``lit_prm.models.flops`` defines them).

    Counted is what the objective needs, not what this machine did: padding, a cold reference store and the number
    of micro-batches, ranks and restarts change nothing. ``generator`` is the model that wrote the rollouts and
    completes them for step labels, where it is not of the policy's shape.
    """

    def __init__(self, generator: str | None = None) -> None:
        self.generator = generator
        self._trainer: Trainer | None = None
        self._earlier = dict.fromkeys(_COUNTS, Work())  # of all ranks, before the last restart
        self._counted = dict.fromkeys(_COUNTS, Work())  # of this rank, since

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = cast(RewardModel, pl_module.reward_model)
        self._policy = shape_of(cast(Any, model.policy).config)  # an unknown shape is told now, not after training
        self._generator = _shape_named(self.generator) if self.generator else self._policy
        self._reference = _reference_shape(model, self._policy)
        self._implicit = isinstance(model, ImplicitReward)
        self._first_stage = _first_stage(cast("str | None", pl_module.start))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        trained, mismatched = _read(batch), sum(map(_read, batch.mismatched), Work())
        self._count("trained", trained)
        self._count("mismatched", mismatched)
        if trainer.current_epoch == 0:  # an epoch visits every response once
            self._count("distinct", trained + mismatched)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        counts: dict[str, int] = getattr(getattr(trainer, "datamodule", None), "spent", dict)()
        spent = self._spent(counts)
        # in double precision and equal on every rank, hence not to be synchronised again
        pl_module.log_dict({name: torch.tensor(n, dtype=torch.float64) for name, n in spent.as_metrics().items()})

    def state_dict(self) -> dict[str, Any]:
        """Counts of all ranks, since a checkpoint keeps the first rank's state alone; called on every rank."""
        return {name: asdict(work) for name, work in self._totals().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = {name: Work(**state_dict[name]) for name in _COUNTS}
        self._counted = dict.fromkeys(_COUNTS, Work())

    def _count(self, what: str, work: Work) -> None:
        self._counted[what] += work

    def _totals(self) -> dict[str, Work]:
        """Counts of all ranks since the run was begun."""
        assert self._trainer is not None  # set up
        strategy = self._trainer.strategy
        rows = [astuple(self._counted[name]) for name in _COUNTS]
        summed = strategy.reduce(torch.tensor(rows, device=strategy.root_device), reduce_op="sum")
        return {name: self._earlier[name] + Work(*row) for name, row in zip(_COUNTS, summed.tolist(), strict=True)}

    def _spent(self, counts: dict[str, int]) -> Spent:
        totals = self._totals()
        trained, mismatched, distinct = (self._by_policy(totals[name]) for name in _COUNTS)
        updates = forward(self._policy, trained) + backward(self._policy, trained)
        reference = Cost(distinct.tokens, forward(self._reference, distinct)) if self._reference else Cost()
        return Spent(
            generation=generated(counts, self._generator),
            labelling=labelled(counts, self._generator, self._policy),
            reference=reference,
            training=Cost(trained.tokens + mismatched.tokens, updates + forward(self._policy, mismatched)),
            earlier=self._first_stage,
        )

    def _by_policy(self, work: Work) -> Work:
        """The work as the reward model does it: a value head computes no logits of words."""
        return work if self._implicit else Work(work.tokens, work.contexts, 0)


def _first_stage(checkpoint: str | None) -> Cost:
    """What the run of the checkpoint says of its cost: `summary.json` beside the folder of its checkpoints."""
    if checkpoint is None:
        return Cost()
    file = Path(checkpoint).parent.parent / "summary.json"
    if not file.exists():
        raise ValueError(
            f"there is no summary.json beside {checkpoint}, so what its run cost is not known; "
            "keep both together, or take Costs out of trainer.callbacks"
        )
    return of_earlier(read_record(file)["metrics"])


def _read(batch: Batch) -> Work:
    lengths = batch.length.cpu()
    return Work.read(lengths.numpy(), int((lengths - batch.prompt_length.cpu()).sum()))


def _reference_shape(model: RewardModel, policy: Shape) -> Shape | None:
    """The shape of the model that training's rewards are relative to; None where no model is asked."""
    if not isinstance(model, ImplicitReward):
        return None
    source: Reference | None = model.training_reference or model.reference
    source = source.source if isinstance(source, Stored) else source
    if source is None or isinstance(source, Uniform):
        return None
    return _shape_named(source.name) if isinstance(source, Frozen) else policy


def _shape_named(model: str) -> Shape:
    """The shape of the model in a local folder or on the hub."""
    return shape_of(AutoConfig.from_pretrained(model))
