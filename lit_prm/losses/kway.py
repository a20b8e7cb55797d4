"""Noise-contrastive objectives on all K responses of a problem at once, one term per problem."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.base import Loss
from lit_prm.losses.segments import group_log_softmax, group_means, group_sums


class KWay(Loss):
    """Compares each problem's K responses with a target distribution over them, softmax(l / alpha) (Chen 2024).

    The default alpha leaves a wrong response beside a right one e^-100 of it, which is none: labels of 0 and 1
    say which is better, not by how much. The target of a problem all right or all wrong is uniform.
    """

    def __init__(self, alpha: float = 0.01) -> None:
        if not 0 < alpha < math.inf:
            raise ValueError(
                f"alpha {alpha} is not positive and finite; it is the temperature of labels in [0, 1], e.g. 0.01"
            )
        self.alpha = alpha

    def target(self, labels: Tensor, group: Tensor) -> Tensor:
        """Sums to 1 over a problem's responses; [N], [N] -> [N]."""
        return group_log_softmax(labels.float() / self.alpha, group).exp()


class InfoNCA(KWay):
    """-sum_k target_k log softmax(r)_k over a problem's responses; [N] -> [problems].

    With one right and one wrong response and alpha -> 0 it is DPO. A single response has nothing to be
    compared with: its term is 0. Problems all right or all wrong are drawn to equal rewards.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        return -group_sums(self.target(labels, group) * group_log_softmax(rewards.float(), group), group)


class KWayNCA(KWay):
    """-sum_k target_k log sigma(r_k) - mean_k log sigma(-r_k) over a problem's responses; [N] -> [problems].

    With one right and one wrong response and alpha -> 0 it is NCA. A single response, and problems all right
    or all wrong, are drawn to a reward of 0.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        rewards = rewards.float()
        attracted = group_sums(self.target(labels, group) * logsigmoid(rewards), group)
        return -attracted - group_means(logsigmoid(-rewards), group)
