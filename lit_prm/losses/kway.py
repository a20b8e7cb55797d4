"""Noise-contrastive objectives on all K responses of a problem at once, one term per problem."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.base import Loss
from lit_prm.losses.segments import group_log_softmax, group_means, group_sums


class KWay(Loss):
    """Base of losses that compare a problem's K responses with a target over them, softmax(l / alpha) (Chen 2024).

    At the default ``alpha`` a wrong response has e^-100 of a right one's target, which is 0 in practice: labels of 0
    and 1 say which response is better, not by how much. If all labels of a problem are equal, its target is uniform.
    """

    def __init__(self, alpha: float = 0.01) -> None:
        if not 0 < alpha < math.inf:
            raise ValueError(
                f"alpha {alpha} is not positive and finite. Give the temperature of labels in [0, 1], for example 0.01."
            )
        self.alpha = alpha

    def target(self, labels: Tensor, group: Tensor) -> Tensor:
        """The target distribution, which sums to 1 over the responses of a problem; [N], [N] -> [N]."""
        return group_log_softmax(labels.float() / self.alpha, group).exp()


class InfoNCA(KWay):
    """-sum_k target_k log softmax(r)_k over a problem's responses; [N] -> [problems].

    With one right and one wrong response and alpha -> 0 this is DPO. The term of a single response is 0, because
    there is nothing to compare. If all labels of a problem are equal, its rewards are drawn to one value.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        return -group_sums(self.target(labels, group) * group_log_softmax(rewards.float(), group), group)


class KWayNCA(KWay):
    """-sum_k target_k log sigma(r_k) - mean_k log sigma(-r_k) over a problem's responses; [N] -> [problems].

    With one right and one wrong response and alpha -> 0 this is NCA. The rewards of a single response, and of a
    problem whose labels are all equal, are drawn to 0.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        rewards = rewards.float()
        attracted = group_sums(self.target(labels, group) * logsigmoid(rewards), group)
        return -attracted - group_means(logsigmoid(-rewards), group)
