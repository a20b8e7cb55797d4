"""What is logged of rewards while training: accuracy, margins, ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from lit_prm.losses.pairs import preference_pairs


def _ranks(rewards: Tensor) -> Tensor:
    """Rewards in their order within [0, 1]: beyond it torchmetrics takes a sigmoid, where all above 17 are equal."""
    order: Tensor = torch.unique(rewards, return_inverse=True)[1]
    return order.double() / max(len(rewards) - 1, 1)


def reward_metrics(rewards: Tensor, labels: Tensor, group: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """What every loss reports of one update, from the same rewards and labels; keys absent when undefined.

    ``rewards/accuracies`` is the share of right-wrong pairs of a problem that are ordered correctly;
    ``length_correlation`` is Pearson's between reward and response length in tokens.
    """
    right, wrong = rewards[labels > 0.5], rewards[labels < 0.5]
    metrics = {}
    if len(right) and len(wrong):
        metrics["train/auc"] = binary_auroc(_ranks(rewards), labels.long())
        metrics["rewards/chosen"], metrics["rewards/rejected"] = right.mean(), wrong.mean()
        metrics["rewards/margins"] = right.mean() - wrong.mean()
    chosen, rejected = preference_pairs(labels, group)
    if len(chosen):
        metrics["rewards/accuracies"] = (rewards[chosen] > rewards[rejected]).float().mean()
    if len(rewards) > 2 and rewards.std() > 0 and tokens.float().std() > 0:
        metrics["rewards/length_correlation"] = torch.corrcoef(torch.stack([rewards, tokens.float()]))[0, 1]
    return metrics
