"""The interface of every objective: a function from rewards and labels to one term per response or pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """All that a loss may read of a batch: B responses, T tokens, S steps; rewards are float32, multiplied by beta."""

    reward: Tensor  # [B] reward r(y) of the response
    values: Tensor  # [B, T] value of the prefix that ends at each token
    in_response: Tensor  # [B, T] True at response tokens
    step_rewards: Tensor  # [B, S] the reward model's reward of each step; 0 where not valid
    step_values: Tensor  # [B, S] value at each step's last token; 0 where not valid
    valid: Tensor  # [B, S] True where the step owns a token
    labels: Tensor  # [B] 1 right, 0 wrong
    step_labels: Tensor  # [B, S] in [0, 1]; nan where unknown
    group: Tensor  # [B] number of each response's problem


class Observed(NamedTuple):
    """The N labelled rewards that a loss is computed from."""

    rewards: Tensor  # [N]
    labels: Tensor  # [N] in [0, 1]
    group: Tensor  # [N] rewards with one number are compared or averaged: those of a problem or of a response


class Loss(ABC):
    """A training objective on N labelled rewards.

    Calling a loss gives its terms without reduction. ``LitPRM`` divides their sum by the number of terms of the whole
    global batch, so the objective does not depend on how that batch was cut into micro-batches or spread over
    ranks. In a training loop of your own, ``mean`` reduces the terms of one batch.

    Rewards are float32 and already multiplied by beta, whatever dtype the model computes in.
    """

    label: ClassVar[str] = "outcome"  # or "steps": responses without labels of this kind are left out of training
    contrast: ClassVar[bool] = False  # True if a problem whose responses all have the same label has no term
    mismatched: ClassVar[bool] = False  # True if zero_point needs the rewards of mismatched responses

    def observe(self, view: View) -> Observed:
        """Choose the rewards that the loss is computed from.

        The default is the reward r(y) of every response, with its outcome label and its problem.
        """
        return Observed(view.reward, view.labels, view.group)

    def zero_point(self, mismatched: Tensor) -> Tensor:
        """The reward that counts as zero; ``LitPRM`` subtracts it from all rewards before the call; [M] -> [].

        ``mismatched`` holds the detached rewards of every prompt of the global batch with a response to another
        problem, over all micro-batches and ranks. They are computed only for losses with ``mismatched = True``.
        """
        return mismatched.new_zeros(())

    @abstractmethod
    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """The terms to minimise; [N] rewards, [N] labels, [N] group, as ``observe`` gives them -> [M].

        M can be 0: a pair loss has no term for a batch without pairs. ``mean`` handles that case.
        """

    def mean(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """Mean of the terms of one batch, for a training loop of your own; [N], [N], [N] -> [].

        Without any term the mean is 0 and its gradient is 0, so the batch changes nothing.
        """
        terms = self(rewards, labels, group)
        return terms.sum() / max(terms.numel(), 1)

    def num_terms(self, labels: Tensor, group: Tensor) -> int:
        """Number of terms of a global batch, from the outcome labels and problems of its responses alone."""
        return self(torch.zeros_like(labels, dtype=torch.float32), labels, group).numel()
