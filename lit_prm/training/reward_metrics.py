"""Training metrics: accuracy, margins and AUC of the rewards, loss and speed, logged once per update."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from lit_prm.losses.pairs import preference_pairs


class LoggedBatch(NamedTuple):
    """What is logged of one training micro-batch of B responses."""

    loss: Tensor  # [1] its share of the update's loss
    rewards: Tensor  # [B]
    labels: Tensor  # [B]
    group: Tensor  # [B]
    tokens: Tensor  # [B] response lengths


class UpdateLog:
    """Collects the micro-batches of an update and logs its metrics; rewards are those of rank 0."""

    def __init__(self) -> None:
        self._parts: list[LoggedBatch] = []
        self._clock = time.perf_counter()

    def start(self) -> None:
        """Forget micro-batches of an unfinished update."""
        self._parts.clear()
        self.restart_clock()

    def restart_clock(self) -> None:
        """Measure the speed of the next update from now on."""
        self._clock = time.perf_counter()

    def add(self, part: LoggedBatch) -> None:
        self._parts.append(part)

    def write(self, module: LightningModule) -> None:
        """Log the metrics of all micro-batches since the last call."""
        update = LoggedBatch(*(torch.cat(column) for column in zip(*self._parts, strict=True)))
        self._parts.clear()
        metrics = reward_metrics(update.rewards, update.labels, update.group, update.tokens)
        rate = float(module.trainer.optimizers[0].param_groups[0]["lr"])
        metrics["train/lr"] = torch.tensor(rate, dtype=torch.float32)  # whatever the default dtype is
        size, ranks = len(update.rewards), module.trainer.world_size
        module.log("train/loss", ranks * update.loss.sum(), prog_bar=True, batch_size=size, sync_dist=ranks > 1)
        module.log_dict(metrics, batch_size=size, rank_zero_only=True)
        seconds, self._clock = time.perf_counter() - self._clock, time.perf_counter()
        speed = ranks * float(update.tokens.sum()) / seconds
        module.log("time/response_tokens_per_second", speed, batch_size=size, rank_zero_only=True)


def reward_metrics(rewards: Tensor, labels: Tensor, group: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Metrics of one update that do not depend on the loss; a metric that is undefined has no key.

    ``rewards`` [B], ``labels`` [B], ``group`` [B] (problem), ``tokens`` [B] (response lengths).
    ``rewards/accuracies`` is the share of pairs of a right and a wrong response to one problem in which the right one
    has the higher reward. ``rewards/length_correlation`` is Pearson's correlation of reward and response length.
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


def _ranks(rewards: Tensor) -> Tensor:
    """The rewards' ranks, scaled to [0, 1].

    Torchmetrics applies a sigmoid to scores outside [0, 1], and in float32 that makes all rewards above 17 equal.
    """
    order: Tensor = torch.unique(rewards, return_inverse=True)[1]
    return order.double() / max(len(rewards) - 1, 1)
