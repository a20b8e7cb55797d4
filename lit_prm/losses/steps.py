"""Losses on labelled steps: one term per response, the mean over its labelled steps."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from lit_prm.losses.base import Loss, Observed, View
from lit_prm.losses.segments import group_means


class StepLoss(Loss):
    """Base of losses on the steps whose label is known; group is the response's row in the batch.

    The sum of an update is divided by its number of responses, so every response weighs the same, whatever number of
    steps it has.
    """

    label = "steps"

    def observe(self, view: View) -> Observed:
        return known_steps(view, view.step_rewards)

    def num_terms(self, labels: Tensor, group: Tensor) -> int:
        return labels.numel()


class StepMean(StepLoss):
    """Base of losses that average a function of step reward and step label over a response."""

    @abstractmethod
    def terms(self, rewards: Tensor, labels: Tensor) -> Tensor:
        """The term of each step, from its reward and its label in [0, 1]; [N], [N] -> [N]."""

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        return group_means(self.terms(rewards.float(), labels.float()), group)


class StepCE(StepMean):
    """-[l log sigma(r_t) + (1 - l) log sigma(-r_t)] for every step; the label l may be soft, e.g. 0.75."""

    def terms(self, rewards: Tensor, labels: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(rewards, labels, reduction="none")


class StepAbs(StepMean):
    """-log sigma(l_t |r_t|) with l_t = 1 for labels above 1/2, else -1: the paper's formula, to the letter.

    The loss increases the size of a right step's reward, whatever its sign, and shrinks a wrong step's reward to 0.
    At r = 0, where policy and reference agree, the gradient is 0, so only an already trained model learns from it.
    """

    def terms(self, rewards: Tensor, labels: Tensor) -> Tensor:
        return -logsigmoid(torch.where(labels > 0.5, 1.0, -1.0) * rewards.abs())


class StepSquared(StepMean):
    """(sigma(r_t) - l_t)^2 for every step: the loss of the second stage in the paper's code.

    Its gradient vanishes for rewards far from 0.
    """

    def terms(self, rewards: Tensor, labels: Tensor) -> Tensor:
        return (torch.sigmoid(rewards) - labels).square()


def known_steps(view: View, at_steps: Tensor) -> Observed:
    """The entries of ``at_steps`` [B, S] at steps with a token and a known label, in order, with these labels."""
    known = view.valid & ~view.step_labels.isnan()
    response = torch.arange(len(known), device=known.device).unsqueeze(1).expand_as(known)
    return Observed(at_steps[known], view.step_labels[known], response[known])
