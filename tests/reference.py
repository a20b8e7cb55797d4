"""Slow, obvious restatements of the definitions: loops over tokens, steps, pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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


def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))) for a float64 x of at most some hundreds."""
    return -torch.log1p(torch.exp(-x))


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


def nca(rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
    """Mean over pairs of -log sigma(r_w) - 1/2 log sigma(-r_w) - 1/2 log sigma(-r_l), in float64."""
    r = rewards.double()
    terms = [
        -log_sigmoid(r[w]) - log_sigmoid(-r[w]) / 2 - log_sigmoid(-r[k]) / 2
        for w in range(len(r))
        for k in range(len(r))
        if group[w] == group[k] and labels[w] > 0.5 and labels[k] < 0.5
    ]
    return torch.stack(terms).mean()


def kto(rewards: Tensor, labels: Tensor, mismatched: Tensor, desirable: float, undesirable: float) -> Tensor:
    """Mean over responses of w_D (1 - sigma(r - KL)) or w_U (1 - sigma(KL - r)), in float64."""
    kl = max(float(mismatched.double().mean()), 0.0)
    terms = [
        desirable * (1 - torch.sigmoid(r - kl)) if label > 0.5 else undesirable * (1 - torch.sigmoid(kl - r))
        for r, label in zip(rewards.double(), labels, strict=True)
    ]
    return torch.stack(terms).mean()


def rows_of(group: Tensor) -> list[list[int]]:
    """The rows of each group, groups ascending."""
    return [[i for i in range(len(group)) if group[i] == g] for g in sorted({int(g) for g in group})]


def info_nca(rewards: Tensor, labels: Tensor, group: Tensor, alpha: float) -> Tensor:
    """Mean over problems of -sum_k softmax(l / alpha)_k log softmax(r)_k, in float64."""
    terms = []
    for rows in rows_of(group):
        target, logs = torch.softmax(labels[rows].double() / alpha, 0), torch.log_softmax(rewards[rows].double(), 0)
        terms.append(-(target * logs).sum())
    return torch.stack(terms).mean()


def kway_nca(rewards: Tensor, labels: Tensor, group: Tensor, alpha: float) -> Tensor:
    """Mean over problems of -sum_k softmax(l / alpha)_k log sigma(r_k) - mean_k log sigma(-r_k), in float64."""
    terms = []
    for rows in rows_of(group):
        target, r = torch.softmax(labels[rows].double() / alpha, 0), rewards[rows].double()
        each = [t * log_sigmoid(x) + log_sigmoid(-x) / len(rows) for t, x in zip(target, r, strict=True)]
        terms.append(-torch.stack(each).sum())
    return torch.stack(terms).mean()


def prefix_ce(values: Tensor, labels: Tensor, group: Tensor, margin: float, late: float) -> Tensor:
    """Mean over responses of the weighted mean over prefixes of -log sigma(v - m) or -log(1 - sigma(v + m))."""
    terms = []
    for rows in rows_of(group):
        weights = [((t + 1) / len(rows)) ** late for t in range(len(rows))]
        each = [
            -log_sigmoid(v - margin) if labels[i] > 0.5 else -log_sigmoid(-(v + margin))
            for i, v in zip(rows, values[rows].double(), strict=True)
        ]
        terms.append(torch.stack([w * x for w, x in zip(weights, each, strict=True)]).sum() / sum(weights))
    return torch.stack(terms).mean()


def step_mean(rewards: Tensor, labels: Tensor, group: Tensor, term: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Mean over responses of the mean over their steps of ``term`` of reward and label, in float64."""
    r = rewards.double()
    return torch.stack(
        [torch.stack([term(r[i], float(labels[i])) for i in rows]).mean() for rows in rows_of(group)]
    ).mean()


def step_ce(r: Tensor, label: float) -> Tensor:
    return -(label * log_sigmoid(r) + (1 - label) * log_sigmoid(-r))


def step_abs(r: Tensor, label: float) -> Tensor:
    return -log_sigmoid((1 if label > 0.5 else -1) * abs(r))


def step_squared(r: Tensor, label: float) -> Tensor:
    return (torch.sigmoid(r) - label) ** 2


def step_rank(values: Tensor, labels: Tensor, group: Tensor, margin: float) -> Tensor:
    """Mean over responses of the mean over right steps t of -log of exp Q_t's share, in float64."""
    q, terms = values.double(), []
    for rows in rows_of(group):
        right = [i for i in rows if labels[i] > 0.5]
        wrong = sum((torch.exp(q[i] + margin) for i in rows if i not in right), torch.zeros((), dtype=torch.float64))
        shares = [torch.exp(q[i]) / (sum(torch.exp(q[j]) for j in right if j <= i) + wrong) for i in right]
        terms.append(-torch.log(torch.stack(shares)).mean() if right else 0 * q[rows].sum())
    return torch.stack(terms).mean()
