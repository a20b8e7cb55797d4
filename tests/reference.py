"""Slow, obvious restatements of the definitions: loops over tokens, steps, pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel


def token_logps(model: PreTrainedModel, ids: Sequence[int], prompt_length: int) -> list[float]:
    """log pi(y_t | x, y_<t) of every response token, one full softmax per prefix, no padding."""
    out = []
    for t in range(prompt_length, len(ids)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([list(ids[:t])])).logits[0, -1].double()
        out.append(float(torch.log_softmax(logits, -1)[ids[t]]))
    return out


def step_rewards(token_rewards: Sequence[float], step: Sequence[int]) -> dict[int, float]:
    """Summed token rewards of every step that owns a token."""
    out: dict[int, float] = {}
    for reward, s in zip(token_rewards, step, strict=True):
        out[s] = out.get(s, 0.0) + reward
    return out


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def ce(rewards: Tensor, labels: Tensor) -> Tensor:
    """Mean over responses of -[l log sigma(r) + (1 - l) log(1 - sigma(r))], in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for r, label in zip(rewards.double(), labels, strict=True):
        total = total - (torch.log(torch.sigmoid(r)) if label > 0.5 else torch.log(torch.sigmoid(-r)))
    return total / len(rewards)


def dpo(rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
    """Mean over pairs of -log sigma(r_w - r_l), in float64."""
    terms = [
        -torch.log(torch.sigmoid(rewards[w].double() - rewards[k].double()))
        for w in range(len(rewards))
        for k in range(len(rewards))
        if group[w] == group[k] and labels[w] > 0.5 and labels[k] < 0.5
    ]
    return torch.stack(terms).mean()
