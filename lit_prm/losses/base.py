"""What every objective is: a function from rewards and labels to one term per response or pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """All that a loss may look at; B responses, T tokens, S steps. Rewards carry beta and are float32."""

    reward: Tensor  # [B] r(y)
    values: Tensor  # [B, T] value of the prefix ending at each token
    in_response: Tensor  # [B, T] where values are those of response tokens
    step_rewards: Tensor  # [B, S] as the reward model scores its steps; 0 where not valid
    step_values: Tensor  # [B, S] value at each step's last token; 0 where not valid
    valid: Tensor  # [B, S]
    labels: Tensor  # [B] 1 right, 0 wrong
    step_labels: Tensor  # [B, S] in [0, 1]; nan where nobody knows
    group: Tensor  # [B] problem of each response


class Observed(NamedTuple):
    """Rewards at the labelled positions; N of them."""

    rewards: Tensor  # [N]
    labels: Tensor  # [N] in [0, 1]
    group: Tensor  # [N] whose rewards are compared or averaged: a problem's, or a response's


class Loss(ABC):
    """A training objective on N labelled rewards.

    The terms are not reduced: the module divides their sum by the number of terms of the whole global
    batch, so the objective does not depend on how that batch was cut into micro-batches or over ranks.
    Rewards already carry beta; they are float32, whatever the model computes in.
    """

    label: ClassVar[str] = "outcome"  # or "steps": a response without labels of this kind is not trained on
    contrast: ClassVar[bool] = False  # whether a problem whose responses all have one label has no term
    mismatched: ClassVar[bool] = False  # whether zero_point wants rewards of mismatched responses

    def observe(self, view: View) -> Observed:
        """The rewards this loss is about; by default r(y) of every response, beside its label and problem."""
        return Observed(view.reward, view.labels, view.group)

    def zero_point(self, mismatched: Tensor) -> Tensor:
        """The reward that counts as zero, subtracted from all before the call; [M] -> [].

        ``mismatched`` are the rewards of every prompt of the global batch with the response of another
        problem, detached, over all micro-batches and ranks; none are computed unless the loss asks.
        """
        return mismatched.new_zeros(())

    @abstractmethod
    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """[N] rewards, [N] labels, [N] group of each, as ``observe`` gives them -> [M] terms to minimise."""

    def num_terms(self, labels: Tensor, group: Tensor) -> int:
        """What a global batch is divided by, from the outcome labels and problems of its responses alone."""
        return self(torch.zeros_like(labels, dtype=torch.float32), labels, group).numel()
