"""What turns tokens into values of response prefixes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_prm.encoding import Batch
from lit_prm.models import Dtype, load_model, token_logps
from lit_prm.reference import Reference
from lit_prm.rewards import log_ratios, prefix_values


class RewardModel(nn.Module, ABC):
    """Values of response prefixes. Constructing one is cheap; ``configure_model`` loads weights."""

    @abstractmethod
    def configure_model(self) -> None:
        """Load or create weights; called once, where the strategy wants modules to be made."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Value q_t of the prefix ending at each response token; [B, T] float32."""

    def prepare(self, batches: Iterable[Batch], device: torch.device) -> None:
        """See every batch once before training, for models that keep something of it."""

    def reference_logps(self, batch: Batch) -> Tensor:
        """Reference log-probs, for the baselines that need no training; [B, T], zeros if there is no reference."""
        return torch.zeros(batch.ids.shape, device=batch.ids.device)


class ImplicitReward(RewardModel):
    """r(y) = beta * log(pi(y) / pi_ref(y)): the policy is the reward model (Yuan et al. 2025, Prop. 3.1).

    The reference is not a submodule: no engine shards it, no checkpoint holds it, no optimizer sees it.
    """

    policy: PreTrainedModel

    def __init__(
        self,
        policy: str,
        reference: Reference,
        beta: float = 0.05,
        dtype: Dtype = "float32",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < beta < math.inf:  # nan is neither
            raise ValueError(
                f"beta {beta} is not positive and finite; it scales log-ratios to rewards (the paper's is 0.05)"
            )
        self.policy_name = policy
        self.reference = reference
        self.beta = beta
        self.dtype = dtype
        self.gradient_checkpointing = gradient_checkpointing

    def configure_model(self) -> None:
        policy = load_model(self.policy_name, self.dtype)
        if self.gradient_checkpointing:
            policy.gradient_checkpointing_enable({"use_reentrant": False})
        self.policy = policy.train()  # from_pretrained leaves eval mode, where checkpointing is silently off

    def prepare(self, batches: Iterable[Batch], device: torch.device) -> None:
        self.reference.prepare(batches, device)

    def forward(self, batch: Batch) -> Tensor:
        ratios = log_ratios(token_logps(self.policy, batch), self.reference_logps(batch))
        return prefix_values(self.beta * ratios)

    def reference_logps(self, batch: Batch) -> Tensor:
        return self.reference.logps(batch)
