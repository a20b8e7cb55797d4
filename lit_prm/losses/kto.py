"""Kahneman-Tversky optimisation on unpaired responses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_prm.losses.base import Loss


class KTO(Loss):
    """w_D sigma(KL - r) for a right response, w_U sigma(r - KL) for a wrong one (Ethayarajh 2024).

    ``desirable`` is w_D and ``undesirable`` is w_U. ``zero_point`` is the KL: one number for all responses of an
    update, subtracted from their rewards before the call. The terms are bounded, so a confidently wrong response has
    almost no gradient; that is KTO's design.
    """

    mismatched = True

    def __init__(self, desirable: float = 1.0, undesirable: float = 1.0) -> None:
        for name, weight in (("desirable", desirable), ("undesirable", undesirable)):
            if not 0 <= weight < math.inf:
                raise ValueError(
                    f"{name} {weight} is not a finite number >= 0. Give a weight, for example 1 as in the paper."
                )
        self.desirable = desirable
        self.undesirable = undesirable

    def zero_point(self, mismatched: Tensor) -> Tensor:
        """Mean of the mismatched rewards, at least 0 and detached: an estimate of beta * KL(policy || reference)."""
        return mismatched.detach().float().mean().clamp(min=0)

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        rewards = rewards.float()
        return torch.where(
            labels > 0.5, self.desirable * torch.sigmoid(-rewards), self.undesirable * torch.sigmoid(rewards)
        )
