"""The paper's optimizer and learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine:
    """Learning rate: linear over the first ``warmup`` share of updates, then a cosine to ``floor`` times the peak."""

    def __init__(self, warmup: float = 0.03, floor: float = 0.1) -> None:
        if not (0 <= warmup < 1 and 0 <= floor <= 1):
            raise ValueError(f"warmup {warmup} and floor {floor} are shares: warmup in [0, 1), floor in [0, 1]")
        self.warmup = warmup
        self.floor = floor

    def factor(self, update: int, total: int) -> float:
        """Multiplier of the peak learning rate at update 0, 1, ... of ``total``."""
        rising = math.ceil(self.warmup * total)
        if update < rising:
            return (update + 1) / rising
        done = min((update - rising) / max(total - rising, 1), 1.0)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))

    def __call__(self, optimizer: Optimizer, total: int) -> LambdaLR:
        return LambdaLR(optimizer, lambda update: self.factor(update, total))


def paper_adamw(params: Any) -> Optimizer:
    """AdamW as in the paper's scripts: betas 0.9 and 0.95, no weight decay, learning rate 5e-7."""
    return torch.optim.AdamW(params, lr=5e-7, betas=(0.9, 0.95), weight_decay=0.0)
