"""LitPRM: one LightningModule for every objective, reward model and kind of label."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.losses import Loss
from lit_prm.losses.base import View
from lit_prm.models.language_model import Dtype
from lit_prm.models.probes import why_not_shared
from lit_prm.models.reference import Reference, Uniform
from lit_prm.models.reward_model import RewardModel
from lit_prm.models.values import response_rewards, step_rewards, step_values
from lit_prm.models.weights import weights_of
from lit_prm.models.zero_weights import frozen_names, put_weights
from lit_prm.training.outputs import Scores
from lit_prm.training.reward_metrics import MicroBatch, UpdateLog
from lit_prm.training.schedule import WarmupCosine, paper_adamw
from lit_prm.training.zero import ZeRO, buffers_kept

OptimizerFactory = Callable[[Any], Optimizer]


class LitPRM(LightningModule):
    """Trains a reward model on outcome labels with any loss; validates by handing out step rewards.

    One update minimises the mean of the loss's terms over the whole *global* batch: the sum of a
    micro-batch's terms is divided by the number of terms of the global batch it was cut from, so the
    objective does not depend on the number of micro-batches or ranks.

    ``reference`` is the frozen model that implicit rewards are relative to and that the baselines without training
    are read from, whatever is trained. ``start`` is a checkpoint whose weights training begins with: a second stage.
    """

    def __init__(
        self,
        reward_model: RewardModel,
        loss: Loss,
        reference: Reference | None = None,
        start: str | None = None,
        optimizer: OptimizerFactory = paper_adamw,
        schedule: WarmupCosine | None = None,
    ) -> None:
        super().__init__()
        self.reward_model = reward_model
        self.loss = loss
        self.reference = reference or getattr(reward_model, "reference", None) or Uniform()
        self.reward_model.adopt(self.reference)
        self.start = start
        self.optimizer_factory = optimizer
        self.schedule = schedule or WarmupCosine()
        self._configured = self._trained = False
        self._update_log = UpdateLog()
        self._zero = torch.zeros(())  # the reward that counts as zero in the current update

    @property
    def policy(self) -> nn.Module | None:
        """The trainable language model, if the reward model is an implicit one and is configured."""
        return getattr(self.reward_model, "policy", None)

    def untrained_policy(self) -> PreTrainedModel | None:
        """The policy before the first update of a run that starts from its base model's weights, else None."""
        trainer = self.trainer
        judged = trainer.state.fn != TrainerFn.FITTING
        trained = self._trained or judged or trainer.global_step or trainer.ckpt_path or self.start
        return None if trained else cast(PreTrainedModel | None, self.policy)

    def references(self) -> list[Reference]:
        """Every distinct source of reference log-probs that training or scoring asks."""
        return list({id(r): r for r in (self.reference, *self.reward_model.references())}.values())

    def to(self, *args: Any, **kwargs: Any) -> LitPRM:
        """As of any module, but a type is that of weights alone."""
        with buffers_kept(self):
            return super().to(*args, **kwargs)

    def setup(self, stage: str) -> None:
        """References compute in the type that weights are to have, or equal networks would not say the same."""
        if dtype := weights_type(self.trainer):
            for reference in self.references():
                reference.compute_in(dtype)

    def configure_model(self) -> None:
        if not self._configured:  # every trainer stage calls this hook
            self.reward_model.configure_model()
            if self.start:
                put_weights(self, weights_of(self.start))
            if self._shares_prompts():
                self._refuse_unshared()
            self._configured = True

    def _shares_prompts(self) -> bool:
        trainer = self._trainer  # None where it is built to score
        training = trainer is not None and trainer.state.fn == TrainerFn.FITTING
        return training and getattr(getattr(trainer, "datamodule", None), "share_prompts", False)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the weights of a checkpoint, which holds no frozen ones; those of another model are refused."""
        frozen, own = frozen_names(self), self.state_dict()
        whole = {name: own[name] for name in frozen if name not in state_dict} | dict(state_dict)
        try:
            return super().load_state_dict(whole, strict=strict, assign=assign)
        except RuntimeError as error:
            raise ValueError(
                f"the checkpoint's weights are not those of this model: {str(error)[:400]} ...; give the --ckpt_path "
                "of a run with the same base_model and reward model"
            ) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        frozen = frozen_names(self)
        checkpoint["state_dict"] = {n: w for n, w in checkpoint.get("state_dict", {}).items() if n not in frozen}

    def configure_optimizers(self) -> Any:
        updates = self.trainer.estimated_stepping_batches
        if math.isinf(updates):
            raise ValueError(
                f"trainer.max_epochs {self.trainer.max_epochs} has no end, but the learning rate falls until the last "
                "update; set trainer.max_epochs to at least 1, or trainer.max_steps"
            )
        self._refuse_part_of_an_update()  # before references are asked for hours
        optimizer = self.optimizer_factory([p for p in self.parameters() if p.requires_grad])
        schedule = self.schedule(optimizer, int(updates))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def forward(self, batch: Batch) -> Tensor:
        """Values of response prefixes; [B, T]."""
        values: Tensor = self.reward_model(batch)
        return values

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        zero = self._zero_point(batch)
        values = self(batch)
        view = self._view(values, batch)
        seen = self.loss.observe(view)
        terms = self.loss(seen.rewards - zero, seen.labels, seen.group)
        total = max(self.loss.num_terms(batch.global_labels, batch.global_group), 1)
        loss: Tensor = (terms.sum() + 0.0 * values.sum()) / total  # the zero keeps a graph when there is no pair
        tokens = batch.length - batch.prompt_length
        self._update_log.add(MicroBatch(loss.detach().view(1), view.reward.detach(), batch.labels, batch.group, tokens))
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self._update_log.write(self)
        # Lightning divides by the number of micro-batches and averages over ranks: undo both.
        return loss * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def _view(self, values: Tensor, batch: Batch) -> View:
        at_ends, valid = step_values(values, batch.step)
        return View(
            reward=response_rewards(values, batch.length),
            values=values,
            in_response=batch.in_response,
            step_rewards=self.reward_model.step_rewards(values, batch.step)[0],
            step_values=at_ends,
            valid=valid,
            labels=batch.labels,
            step_labels=batch.step_labels,
            group=batch.group,
        )

    @torch.no_grad()
    def _zero_point(self, batch: Batch) -> Tensor:
        """The loss's zero for the whole update, found at its first micro-batch, before any of its gradients."""
        if batch.mismatched:
            rewards = torch.cat([response_rewards(self(b), b.length) for b in batch.mismatched])
            self._zero = self.loss.zero_point(_over_ranks(rewards, self))
        return self._zero.to(batch.ids.device)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Scores:  # type: ignore[override]
        return self.score(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Scores:  # type: ignore[override]
        return self.score(batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Scores:
        return self.score(batch)

    def score(self, batch: Batch) -> Scores:
        """Rewards of responses and of their steps, beside the reference's log-probs of the same steps."""
        values = self(batch)
        steps, valid = self.reward_model.step_rewards(values, batch.step)
        reference_steps, exists = step_rewards(self.reference.logps(batch).double().cumsum(1).float(), batch.step)
        return Scores(
            row=batch.row,
            reward=response_rewards(values, batch.length),
            steps=steps,
            valid=valid,
            reference_steps=reference_steps,
            reference_valid=exists,
        )

    def _refuse_unshared(self) -> None:
        """Before the reference is asked, which takes hours for a large one."""
        policy = getattr(self.reward_model, "policy", None)
        if policy is None:
            return
        if reason := why_not_shared(policy):
            raise ValueError(
                f"data.share_prompts is true, but {type(policy).__name__} cannot run so: {reason}; set it to false"
            )

    def on_train_start(self) -> None:
        self._refuse_part_of_an_update()  # where updates alone are bounded, batches were not known earlier
        self._trained = True
        self._update_log.start()

    def on_validation_end(self) -> None:
        self._update_log.restart_clock()  # the seconds of validation are not the next update's

    def _refuse_part_of_an_update(self) -> None:
        """Lightning would step at an epoch's end by the gradients of some micro-batches of a global batch."""
        batches, cuts = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        if not math.isinf(batches) and batches % cuts and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise ValueError(
                f"an epoch would end after {batches} micro-batches, in the middle of an update, which has {cuts} "
                f"(trainer.accumulate_grad_batches); set trainer.limit_train_batches to a multiple of {cuts}"
            )


def weights_type(trainer: Trainer) -> Dtype | None:
    """The type that the trainer's precision casts all weights to; None where they stay as they are configured."""
    precision = str(trainer.precision)
    if not (precision.endswith("-true") or isinstance(trainer.strategy, ZeRO)):  # which mixes masters in, not weights
        return None
    return "bfloat16" if precision.startswith("bf16") else "float16" if precision.startswith("16") else None


def _over_ranks(rewards: Tensor, module: LightningModule) -> Tensor:
    """The rewards of all ranks, of which each may have another number; [M] -> [M of all]."""
    if module.trainer.world_size == 1:
        return rewards
    sizes = cast(Tensor, module.all_gather(torch.tensor(len(rewards), device=rewards.device))).tolist()
    padded = torch.nn.functional.pad(rewards, (0, max(sizes) - len(rewards)))
    every = cast(Tensor, module.all_gather(padded))  # [ranks, most]
    return torch.cat([row[:n] for row, n in zip(every, sizes, strict=True)])
