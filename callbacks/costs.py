"""Costs: tokens and FLOPs that the run has cost, logged after every epoch."""

from __future__ import annotations

from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from transformers import AutoConfig

from lit_prm.data.batch import Batch
from lit_prm.models.flops import Cost, Shape, Spent, Work, backward, forward, generated, labelled, of_earlier, shape_of
from lit_prm.models.reference import Frozen, Reference, Stored, Uniform
from lit_prm.models.reward_model import ImplicitReward, RewardModel
from lit_prm.storage.run_files import read_record

_COUNTS = ("trained", "mismatched", "distinct")


class _Shapes(NamedTuple):
    """The sizes that FLOPs are computed from, and what the first stage of a two-stage run has cost."""

    policy: Shape
    generator: Shape
    reference: Shape | None  # None if the reward needs no pass of a reference model
    implicit: bool  # True if training computes the logits of words, False for a value head
    first_stage: Cost


class Costs(Callback):
    """Logs ``cost/...`` at the end of every epoch, for the whole run so far; ``lit_prm.models.flops`` defines them.

    The numbers count what the objective needs, not what this machine did: padding, an empty reference store and the
    number of micro-batches, ranks and restarts change nothing. ``generator`` names the model that wrote the rollouts
    and completes them for step labels, if its shape differs from the policy's.

    If the cost cannot be computed (FLOPs of this kind of model are not known, the module has no ``reward_model``, or
    the record of the first stage is missing), Costs warns once, and training goes on without cost metrics.
    """

    def __init__(self, generator: str | None = None) -> None:
        self.generator = generator
        self._trainer: Trainer | None = None
        self._shapes: _Shapes | None = None  # None if the cost is not known
        self._earlier = dict.fromkeys(_COUNTS, Work())  # of all ranks, before the last restart
        self._counted = dict.fromkeys(_COUNTS, Work())  # of this rank, since the last restart

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        try:
            self._shapes = self._read_shapes(pl_module)
        except (ValueError, KeyError, OSError) as error:
            self._shapes = None
            rank_zero_warn(f"Costs logs no cost metrics in this run: {error}")

    def _read_shapes(self, pl_module: LightningModule) -> _Shapes:
        model = getattr(pl_module, "reward_model", None)
        if not isinstance(model, RewardModel):
            raise ValueError(f"{type(pl_module).__name__} has no reward_model of lit_prm, whose shape FLOPs depend on.")
        if getattr(model, "policy", None) is None:
            raise ValueError(f"{type(model).__name__} has no policy, whose shape FLOPs depend on.")
        policy = shape_of(cast(Any, model.policy).config)
        return _Shapes(
            policy=policy,
            generator=_shape_named(self.generator) if self.generator else policy,
            reference=_reference_shape(model, policy),
            implicit=isinstance(model, ImplicitReward),
            first_stage=_first_stage(cast("str | None", getattr(pl_module, "start", None))),
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(batch, Batch):  # of a module and data of one's own
            return
        trained, mismatched = _read(batch), sum(map(_read, batch.mismatched), Work())
        self._counted["trained"] += trained
        self._counted["mismatched"] += mismatched
        if trainer.current_epoch == 0:  # an epoch visits every response once
            self._counted["distinct"] += trained + mismatched

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._shapes is None:
            return
        counts: dict[str, int] = getattr(getattr(trainer, "datamodule", None), "spent", dict)()
        spent = self._spent(counts, self._shapes)
        # in double precision, and without sync_dist: the numbers are equal on every rank
        pl_module.log_dict({name: torch.tensor(n, dtype=torch.float64) for name, n in spent.as_metrics().items()})

    def state_dict(self) -> dict[str, Any]:
        """Counts of all ranks, because a checkpoint keeps only the first rank's state; every rank must call it."""
        return {name: asdict(work) for name, work in self._totals().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = {name: Work(**state_dict[name]) for name in _COUNTS}
        self._counted = dict.fromkeys(_COUNTS, Work())

    def _totals(self) -> dict[str, Work]:
        """Counts of all ranks since the run began."""
        assert self._trainer is not None  # ``setup`` was called
        strategy = self._trainer.strategy
        rows = [astuple(self._counted[name]) for name in _COUNTS]
        summed = strategy.reduce(torch.tensor(rows, device=strategy.root_device), reduce_op="sum")
        return {name: self._earlier[name] + Work(*row) for name, row in zip(_COUNTS, summed.tolist(), strict=True)}

    def _spent(self, counts: dict[str, int], shapes: _Shapes) -> Spent:
        totals = self._totals()
        if not shapes.implicit:  # a value head computes no logits of words
            totals = {name: Work(work.tokens, work.contexts, 0) for name, work in totals.items()}
        trained, mismatched, distinct = (totals[name] for name in _COUNTS)
        policy, reference = shapes.policy, shapes.reference
        updates = forward(policy, trained) + backward(policy, trained)
        return Spent(
            generation=generated(counts, shapes.generator),
            labelling=labelled(counts, shapes.generator, policy),
            reference=Cost(distinct.tokens, forward(reference, distinct)) if reference else Cost(),
            training=Cost(trained.tokens + mismatched.tokens, updates + forward(policy, mismatched)),
            earlier=shapes.first_stage,
        )


def _first_stage(checkpoint: str | None) -> Cost:
    """The cost that the checkpoint's run has recorded in ``summary.json``, beside its folder of checkpoints."""
    if checkpoint is None:
        return Cost()
    file = Path(checkpoint).parent.parent / "summary.json"
    if not file.exists():
        raise ValueError(
            f"There is no summary.json beside {checkpoint}, so the cost of its run is not known. "
            "Keep the checkpoint in its run's folder."
        )
    return of_earlier(read_record(file)["metrics"])


def _read(batch: Batch) -> Work:
    lengths = batch.length.cpu()
    return Work.read(lengths.numpy(), int((lengths - batch.prompt_length.cpu()).sum()))


def _reference_shape(model: RewardModel, policy: Shape) -> Shape | None:
    """The shape of the reference model that training runs; None if training runs none."""
    if not isinstance(model, ImplicitReward):
        return None
    source: Reference | None = model.training_reference or model.reference
    source = source.source if isinstance(source, Stored) else source
    if source is None or isinstance(source, Uniform):
        return None
    return _shape_named(source.name) if isinstance(source, Frozen) else policy


def _shape_named(model: str) -> Shape:
    """The shape of the model in a local folder or on the hub."""
    return shape_of(AutoConfig.from_pretrained(model, trust_remote_code=False))
