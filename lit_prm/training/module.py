"""LitPRM: the LightningModule for every loss, reward model and kind of label."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.utilities.distributed import gather_all_tensors
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.losses import Loss
from lit_prm.losses.base import View
from lit_prm.models.identity import refuse_other_base
from lit_prm.models.language_model import Dtype
from lit_prm.models.packed_rows import is_packed
from lit_prm.models.probes import why_not_shared
from lit_prm.models.reference import Reference, Uniform
from lit_prm.models.reward_model import RewardModel
from lit_prm.models.values import prefix_values, response_rewards, step_rewards, step_values
from lit_prm.models.vocabulary import refuse_other_vocabulary
from lit_prm.models.weights import weights_of
from lit_prm.models.zero_weights import frozen_names, put_weights
from lit_prm.training.outputs import Scores
from lit_prm.training.reward_metrics import LoggedBatch, UpdateLog
from lit_prm.training.schedule import WarmupCosine, paper_adamw
from lit_prm.training.zero import ZeRO, buffers_kept

OptimizerFactory = Callable[[Any], Optimizer]


class LitPRM(LightningModule):
    """Trains a reward model with any loss; validation, test and predict steps return ``Scores``.

    One update minimises the mean of the loss's terms over the whole *global* batch. The sum of a micro-batch's terms
    is divided by the number of terms of the global batch that it was cut from, so the objective does not depend on
    the number of micro-batches or ranks. An update without any term has loss 0 and zero gradients.

    ``reference`` is the frozen model that implicit rewards are relative to; the untrained baselines of evaluation use
    its log-probs with every reward model. ``start`` is a checkpoint whose weights a second stage begins with.
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
        """The reward model's language model; None before ``configure_model``, or if there is none."""
        return getattr(self.reward_model, "policy", None)

    def untrained_policy(self) -> PreTrainedModel | None:
        """The policy while it still has the weights of its base model; None from the first update on."""
        trainer = self.trainer
        judged = trainer.state.fn != TrainerFn.FITTING
        trained = self._trained or judged or trainer.global_step or trainer.ckpt_path or self.start
        return None if trained else cast(PreTrainedModel | None, self.policy)

    def references(self) -> list[Reference]:
        """The distinct references whose log-probs training or scoring uses."""
        return list({id(r): r for r in (self.reference, *self.reward_model.references())}.values())

    def to(self, *args: Any, **kwargs: Any) -> LitPRM:
        """Move or cast as any module; a dtype is applied to weights alone, not to buffers."""
        with buffers_kept(self):
            return super().to(*args, **kwargs)

    def setup(self, stage: str) -> None:
        """Let references compute in the dtype of the trained weights, so that equal networks give equal log-probs.

        Raises ValueError for a reference with another vocabulary than the data module's tokenizer.
        """
        if dtype := weights_type(self.trainer):
            for reference in self.references():
                reference.compute_in(dtype)
        data = getattr(self.trainer, "datamodule", None)  # one's own may lack an encoder
        encoder = data.encoder() if data is not None and hasattr(data, "encoder") else None
        for name in {reference.model_name for reference in self.references()} - {None}:
            if encoder is not None:
                refuse_other_vocabulary(encoder, str(name))

    def configure_model(self) -> None:
        if not self._configured:  # Lightning calls this hook in every stage
            self.reward_model.configure_model()
            if self.start:
                weights = weights_of(self.start)
                refuse_other_base(self.reward_model, self.start)
                put_weights(self, weights)
            self._check_shared_prompts()
            self._configured = True

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the trained weights of a checkpoint, which holds no frozen ones; raises for those of another model."""
        frozen, own = frozen_names(self), self.state_dict()
        whole = {name: own[name] for name in frozen if name not in state_dict} | dict(state_dict)
        try:
            return super().load_state_dict(whole, strict=strict, assign=assign)
        except RuntimeError as error:
            raise ValueError(
                f"the checkpoint's weights are not those of this model: {str(error)[:400]} ... Give the --ckpt_path of "
                "a run with the same base_model and reward model."
            ) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        frozen = frozen_names(self)
        checkpoint["state_dict"] = {n: w for n, w in checkpoint.get("state_dict", {}).items() if n not in frozen}

    def configure_optimizers(self) -> Any:
        updates = self.trainer.estimated_stepping_batches
        if math.isinf(updates):
            raise ValueError(
                f"trainer.max_epochs {self.trainer.max_epochs} has no end, but the learning-rate schedule needs the "
                "number of updates. Set trainer.max_epochs to at least 1, or set trainer.max_steps."
            )
        self._check_whole_updates()  # before hours are spent on reference log-probs
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
        observed = self.loss.observe(view)
        terms = self.loss(observed.rewards - zero, observed.labels, observed.group)
        total = max(self.loss.num_terms(batch.global_labels, batch.global_group), 1)
        loss: Tensor = (terms.sum() + 0.0 * values.sum()) / total  # 0 * values: a graph also without terms
        tokens = batch.length - batch.prompt_length
        logged = LoggedBatch(loss.detach().view(1), view.reward.detach(), batch.labels, batch.group, tokens)
        self._update_log.add(logged)
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
        """The loss's zero point for the whole update, computed at its first micro-batch before any gradient."""
        if batch.mismatched:
            rewards = torch.cat([response_rewards(self(b), b.length) for b in batch.mismatched])
            if self.trainer.world_size > 1:
                rewards = torch.cat(gather_all_tensors(rewards))  # ranks may have different numbers of them
            self._zero = self.loss.zero_point(rewards)
        return self._zero.to(batch.ids.device)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Scores:  # type: ignore[override]
        return self.score(batch)

    test_step = validation_step  # type: ignore[assignment]
    predict_step = validation_step

    def score(self, batch: Batch) -> Scores:
        """Rewards of responses and steps, and the reference's log-probs of the same steps."""
        values = self(batch)
        steps, valid = self.reward_model.step_rewards(values, batch.step)
        reference_steps, exists = step_rewards(prefix_values(self.reference.logps(batch)), batch.step)
        return Scores(
            row=batch.row,
            reward=response_rewards(values, batch.length),
            steps=steps,
            valid=valid,
            reference_steps=reference_steps,
            reference_valid=exists,
        )

    def _check_shared_prompts(self) -> None:
        """Raise if training shares prompts and the policy cannot."""
        trainer, policy = self._trainer, self.policy  # without a Trainer, as in scoring, nothing is trained
        if policy is None or trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return
        shares = getattr(getattr(trainer, "datamodule", None), "share_prompts", False)
        if shares and (reason := why_not_shared(cast(PreTrainedModel, policy))):
            raise ValueError(
                f"data.share_prompts is true, but {type(policy).__name__} cannot share prompts: {reason}. Set "
                "data.share_prompts to false."
            )

    def may_share_prompts(self) -> bool:
        """True if policy and references run packed rows: evaluation then runs a prompt once for all its responses."""
        networks = [self.policy, *(reference.network(self.device) for reference in self.references())]
        return self.policy is not None and all(n is None or is_packed(n) for n in networks)

    def on_train_start(self) -> None:
        self._check_whole_updates()  # with max_steps alone, the number of batches was not known earlier
        self._trained = True
        self._update_log.start()

    def on_validation_end(self) -> None:
        self._update_log.restart_clock()  # the seconds of validation are not the next update's

    def _check_whole_updates(self) -> None:
        """Raise if an epoch ends within an update: Lightning would then step with a part of its gradients."""
        batches, cuts = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        if not math.isinf(batches) and batches % cuts and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise ValueError(
                f"an epoch would end after {batches} micro-batches, in the middle of an update, which has {cuts} "
                f"(trainer.accumulate_grad_batches). Set trainer.limit_train_batches to a multiple of {cuts}."
            )


def weights_type(trainer: Trainer) -> Dtype | None:
    """The dtype that the trainer's precision casts all weights to; None if weights keep their dtype."""
    precision = str(trainer.precision)
    if not (precision.endswith("-true") or isinstance(trainer.strategy, ZeRO)):  # ZeRO casts weights also with -mixed
        return None
    return "bfloat16" if precision.startswith("bf16") else "float16" if precision.startswith("16") else None
