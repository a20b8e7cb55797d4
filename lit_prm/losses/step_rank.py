"""Ranking the values at a response's steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_prm.losses.base import Observed, View
from lit_prm.losses.segments import group_sums
from lit_prm.losses.steps import StepLoss, known_steps


class StepRank(StepLoss):
    """Right steps' values rise in order and stay ``margin`` above wrong steps' (PQM, Li & Li 2024, arXiv 2410.11287).

    The mean over a response's right steps t (labels above 1/2) of -log [exp Q_t / (exp Q_t + sum over earlier
    right steps of exp Q + sum over its wrong steps of exp(Q + margin))], Q the value at the step's end. Wrong
    steps are not ranked among themselves, as in PQM's practical form. Its further term, for an empty response
    of value 0, is left out: a value head need not know that value, and so only differences of values count. A
    response without right steps has nothing to rank its wrong ones below, and the term 0.
    """

    def __init__(self, margin: float = 4.0) -> None:
        if not 0 <= margin < math.inf:
            raise ValueError(f"margin {margin} is not a finite number >= 0; PQM's is 4")
        self.margin = margin

    def observe(self, view: View) -> Observed:
        return known_steps(view, view.step_values)

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """[N] values at steps, those of a response in order -> one term per response."""
        values, right = rewards.float(), labels > 0.5
        rivals = (
            (values + self.margin * ~right).expand(len(values), -1).masked_fill(~_compared(right, group), -math.inf)
        )
        terms = (rivals.logsumexp(1) - values) * right
        return group_sums(terms, group) / group_sums(right.float(), group).clamp(min=1)


def _compared(right: Tensor, group: Tensor) -> Tensor:
    """Where column step is in row step's sum: of one response, and wrong, or right and no later; [N] -> [N, N]."""
    no_later = torch.ones(len(right), len(right), dtype=torch.bool, device=right.device).tril()
    return (group.unsqueeze(1) == group.unsqueeze(0)) & (~right | no_later)
