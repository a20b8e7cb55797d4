"""What every objective is: a function from rewards and labels to one term per response or pair."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Loss(ABC):
    """A training objective on N labelled rewards.

    The terms are not reduced: the module divides their sum by the number of terms of the whole global
    batch, so the objective does not depend on how that batch was cut into micro-batches or over ranks.
    Rewards already carry beta; they are float32, whatever the model computes in.
    """

    @abstractmethod
    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """[N] rewards, [N] labels in {0, 1}, [N] problem of each response -> [M] terms to minimise."""

    def num_terms(self, labels: Tensor, group: Tensor) -> int:
        """M for these labels: what a global batch is divided by."""
        return self(torch.zeros_like(labels, dtype=torch.float32), labels, group).numel()
