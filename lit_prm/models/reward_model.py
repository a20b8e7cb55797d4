"""What turns tokens into values of response prefixes, and values into rewards of steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

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


class RewardModel(nn.Module, ABC):
    """Values of response prefixes. Constructing one is cheap; ``configure_model`` loads weights."""

    dtype: Dtype

    @abstractmethod
    def configure_model(self) -> None:
        """Load or create weights; called once, where the strategy wants modules to be made."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Value q_t of the prefix ending at each response token; [B, T] float32."""

    def step_rewards(self, values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """What training and scoring alike call the reward of a step, and which steps have one; [B, T] -> [B, S] twice.

        By default the difference of the values at its end and at its start (eq. 3).
        """
        return step_rewards(values, step)

    def adopt(self, reference: Reference) -> None:
        """Take the module's frozen reference, if this model is about one and has none of its own."""

    def references(self) -> list[Reference]:
        """The references its rewards are relative to: in training and in scoring."""
        return []

    def ask_through(self, change: Callable[[Reference], Reference]) -> None:
        """Ask every reference through what ``change`` makes of it."""


class OfPolicy(RewardModel):
    """A reward model on a language model that is trained.

    ``kernels`` exchange how it computes, in their order, once it is loaded.
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
        for exchange in self.kernels:
            exchange(self.policy)
        self.policy.train()  # from_pretrained leaves eval mode, where checkpointing is silently off

    def _load(self) -> PreTrainedModel:
        return load_model(self.policy_name, self.dtype, self.attention)


class ImplicitReward(OfPolicy):
    """r(y) = beta * log(pi(y) / pi_ref(y)): the policy is the reward model (Yuan et al. 2025, Prop. 3.1).

    The reference is the module's unless one is given here; it is not a submodule: no engine shards it, no
    checkpoint holds it, no optimizer sees it. ``training_reference`` and ``scoring_reference`` take its place
    in train mode and in eval mode, where they differ (section 5.5.2 of the paper).
    """

    def __init__(
        self,
        policy: str,
        reference: Reference | None = None,
        beta: float = 0.05,
        training_reference: Reference | None = None,
        scoring_reference: Reference | None = None,
        **options: Any,
    ) -> None:
        super().__init__(policy, **options)
        if not 0 < beta < math.inf:  # nan is neither
            raise ValueError(
                f"beta {beta} is not positive and finite; it scales log-ratios to rewards (the paper's is 0.05)"
            )
        self.reference = reference
        self.training_reference = training_reference
        self.scoring_reference = scoring_reference
        self.beta = beta

    def adopt(self, reference: Reference) -> None:
        self.reference = self.reference or reference

    def references(self) -> list[Reference]:
        return [self._reference(training) for training in (True, False)]

    def ask_through(self, change: Callable[[Reference], Reference]) -> None:
        for name in ("reference", "training_reference", "scoring_reference"):
            if (found := getattr(self, name)) is not None:
                setattr(self, name, change(found))

    def forward(self, batch: Batch) -> Tensor:
        reference = self._reference(self.training)
        return prefix_values(self.beta * log_ratios(token_logps(self.policy, batch), reference.logps(batch)))

    def _reference(self, training: bool) -> Reference:
        found = (self.training_reference if training else self.scoring_reference) or self.reference
        if found is None:
            raise ValueError("an implicit reward is relative to a reference; set model.reference, to Uniform for none")
        return found


class ValueHead(OfPolicy):
    """A linear head on the hidden state of every response token: an explicit reward in log-odds of being right.

    The value of a prefix is read at its last token, in training as in scoring. The head starts at zero, so
    the first rewards are 0 and the first losses those of an untrained implicit reward.
    """

    def configure_model(self) -> None:
        super().configure_model()
        output = cast(Any, self.policy).get_output_embeddings()
        for weights in () if self.policy.config.tie_word_embeddings else output.parameters():
            weights.requires_grad_(False)  # no value hangs on the words' head
        self.head = nn.Linear(self.policy.config.hidden_size, 1, dtype=torch.float32)
        with whole(self.head.parameters(), write=True):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> Tensor:
        states = states_at(self.policy, batch, batch.in_response)  # [R, H]
        values = torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)
        # a sum of products, not a matrix product, which autocast would round to bfloat16
        values[batch.in_response] = (states.float() * self.head.weight).sum(-1) + self.head.bias
        return values


class OutcomeHead(ValueHead):
    """The outcome reward model: only the value at a response's last token counts, as the reward of its last step."""

    def step_rewards(self, values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        at_end, valid = step_values(values, step)
        only = last_step(valid)
        return at_end.where(only, 0.0), only


class StepHead(ValueHead):
    """The process reward model with a head: the reward of a step is the value at its last token."""

    def step_rewards(self, values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        return step_values(values, step)


MODULE_PREFIX = "reward_model."  # what the names of its weights begin with in a run's checkpoint


def load_trained(model: RewardModel, checkpoint: str) -> None:
    """Give the reward model, its base loaded, the weights that a run's checkpoint holds of it."""
    weights = weights_of(checkpoint)
    own = {name.removeprefix(MODULE_PREFIX): w for name, w in weights.items() if name.startswith(MODULE_PREFIX)}
    try:
        put_weights(model, own)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error
