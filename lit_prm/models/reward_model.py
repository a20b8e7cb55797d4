"""Reward models: from a batch of tokens to a value per response prefix, and from values to step rewards."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.kernels import Kernels
from lit_prm.models.language_model import Attention, Dtype, load_model
from lit_prm.models.logps import states_at, token_logps
from lit_prm.models.reference import Reference
from lit_prm.models.values import last_step, log_ratios, prefix_values, step_rewards, step_values
from lit_prm.models.weights import weights_of
from lit_prm.models.zero_weights import put_weights, whole

REFERENCE_ARGUMENTS = ("scoring_reference", "reference", "training_reference")  # the first one given serves scoring


class RewardModel(nn.Module, ABC):
    """Predicts a value for every response prefix. The constructor is cheap; ``configure_model`` loads the weights.

    Commands ask the class, without an object of it: ``relative_to_reference`` is True if rewards are log-ratios to a
    reference, ``has_own_reference`` if the model makes a reference itself when its configuration names none.
    """

    relative_to_reference: ClassVar[bool] = False
    has_own_reference: ClassVar[bool] = False

    dtype: Dtype

    @classmethod
    def as_exported(cls, init_args: Mapping[str, Any]) -> tuple[type[RewardModel], dict[str, Any]]:
        """The class and arguments that load this model from an exported folder: training options are left out."""
        return cls, {name: value for name, value in init_args.items() if name != "gradient_checkpointing"}

    @abstractmethod
    def configure_model(self) -> None:
        """Load or create the weights. Lightning's hook of the same name calls this once."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Value q_t of the prefix that ends at each response token; [B, T] float32."""

    def step_rewards(self, values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The reward of each step, and which steps have one, in training and in scoring; [B, T] -> [B, S] twice.

        By default the difference between the values at the step's end and at its start (eq. 3).
        """
        return step_rewards(values, step)

    def adopt(self, reference: Reference) -> None:
        """Use the reference of the Lightning module, if this model needs one and was given none."""

    def references(self) -> list[Reference]:
        """The references of training and of scoring; empty if rewards are not relative to a reference."""
        return []

    def replace_references(self, replace: Callable[[Reference], Reference]) -> None:
        """Replace every reference by what ``replace`` returns for it."""


class OfPolicy(RewardModel):
    """A reward model built on a language model, the policy, which is trained.

    ``kernels`` are applied to the loaded policy in the given order.
    """

    policy: PreTrainedModel

    def __init__(
        self,
        policy: str,
        dtype: Dtype = "float32",
        gradient_checkpointing: bool = False,
        attention: Attention = "auto",
        kernels: Sequence[Kernels] = (),
    ) -> None:
        super().__init__()
        self.policy_name = policy
        self.dtype = dtype
        self.gradient_checkpointing = gradient_checkpointing
        self.attention = attention
        self.kernels = kernels

    def configure_model(self) -> None:
        self.policy = self._load()
        if self.gradient_checkpointing:
            cast(Any, self.policy).activation_checkpointing_enable({"use_reentrant": False})
        for apply_kernels in self.kernels:
            apply_kernels(self.policy)
        self.policy.train()  # from_pretrained leaves eval mode, in which checkpointing is silently off

    def _load(self) -> PreTrainedModel:
        return load_model(self.policy_name, self.dtype, self.attention)


class ImplicitReward(OfPolicy):
    """r(y) = beta * log(pi(y) / pi_ref(y)): the policy is the reward model (Yuan et al. 2025, Prop. 3.1).

    Without ``reference`` the Lightning module's reference is used. The reference is not a submodule: no strategy
    shards it, no checkpoint holds it, no optimizer sees it. ``training_reference`` and ``scoring_reference`` replace
    it in train mode and in eval mode, where the two differ (section 5.5.2 of the paper).
    """

    relative_to_reference = True

    def __init__(
        self,
        policy: str,
        reference: Reference | None = None,
        beta: float = 0.05,
        training_reference: Reference | None = None,
        scoring_reference: Reference | None = None,
        dtype: Dtype = "float32",
        gradient_checkpointing: bool = False,
        attention: Attention = "auto",
        kernels: Sequence[Kernels] = (),
    ) -> None:
        super().__init__(policy, dtype, gradient_checkpointing, attention, kernels)
        if not 0 < beta < math.inf:  # false for nan as well
            raise ValueError(
                f"beta {beta} is not positive and finite. It scales log-ratios to rewards; the paper uses 0.05."
            )
        self.reference = reference
        self.training_reference = training_reference
        self.scoring_reference = scoring_reference
        self.beta = beta

    def adopt(self, reference: Reference) -> None:
        self.reference = self.reference or reference

    def references(self) -> list[Reference]:
        return [self._reference(training) for training in (True, False)]

    def replace_references(self, replace: Callable[[Reference], Reference]) -> None:
        for name in REFERENCE_ARGUMENTS:
            if (reference := getattr(self, name)) is not None:
                setattr(self, name, replace(reference))

    def forward(self, batch: Batch) -> Tensor:
        reference = self._reference(self.training)
        return prefix_values(self.beta * log_ratios(token_logps(self.policy, batch), reference.logps(batch)))

    def _reference(self, training: bool) -> Reference:
        reference = (self.training_reference if training else self.scoring_reference) or self.reference
        if reference is None:
            raise ValueError(
                "An implicit reward is relative to a reference, and there is none. Set model.reference; "
                "lit_prm.models.reference.Uniform means no reference model."
            )
        return reference


class ValueHead(OfPolicy):
    """A linear head on the hidden state of every response token: an explicit reward, in log-odds of being right.

    The value of a prefix is read at its last token, in training and in scoring. The head starts at zero, so the first
    rewards are 0 and the first losses equal those of an untrained implicit reward.
    """

    def configure_model(self) -> None:
        super().configure_model()
        output = cast(Any, self.policy).get_output_embeddings()
        for weights in () if self.policy.config.tie_word_embeddings else output.parameters():
            weights.requires_grad_(False)  # no value depends on the language-model head
        self.head = nn.Linear(self.policy.config.hidden_size, 1, dtype=torch.float32)
        with whole(self.head.parameters(), write=True):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> Tensor:
        states = states_at(self.policy, batch, batch.in_response)  # [R, H]
        values = torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)
        # a sum of products, since autocast would round a matrix product to bfloat16
        values[batch.in_response] = (states.float() * self.head.weight).sum(-1) + self.head.bias
        return values


class OutcomeHead(ValueHead):
    """The outcome reward model: only a response's last step has a reward, the value at its last token."""

    def step_rewards(self, values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        at_end, valid = step_values(values, step)
        only = last_step(valid)
        return at_end.where(only, 0.0), only


class StepHead(ValueHead):
    """The process reward model with a head: the reward of a step is the value at its last token."""

    def step_rewards(self, values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        return step_values(values, step)


MODULE_PREFIX = "reward_model."  # of the reward model's weights in a run's checkpoint


def load_trained(model: RewardModel, checkpoint: str) -> None:
    """Load the weights of a run's checkpoint. Raises ValueError, with its name, for those of another model."""
    weights = weights_of(checkpoint)
    own = {name.removeprefix(MODULE_PREFIX): w for name, w in weights.items() if name.startswith(MODULE_PREFIX)}
    try:
        put_weights(model, own)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error
