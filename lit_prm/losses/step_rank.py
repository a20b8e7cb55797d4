"""A ranking loss on the values at a response's steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_prm.losses.base import Observed, View
from lit_prm.losses.segments import group_sums
from lit_prm.losses.steps import StepLoss, known_steps


class StepRank(StepLoss):
    """Ranks the values at steps: right steps rise in order, ``margin`` above wrong ones (PQM, arXiv 2410.11287).

    The mean over a response's right steps t (labels above 1/2) of -log [exp Q_t / (exp Q_t + sum over earlier
    right steps of exp Q + sum over its wrong steps of exp(Q + margin))], with Q the value at the step's end (Li & Li
    2024). Wrong steps are not ranked among themselves, as in PQM's practical form. PQM's further term, for an empty
    response of value 0, is left out: a value head does not define that value, and without the term only differences
    of values count. The term of a response without right steps is 0.
    """

    def __init__(self, margin: float = 4.0) -> None:
        if not 0 <= margin < math.inf:
            raise ValueError(f"margin {margin} is not a finite number >= 0. Give a margin, for example 4 as in PQM.")
        self.margin = margin

    def observe(self, view: View) -> Observed:
        return known_steps(view, view.step_values)

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """One term per response; [N] values at steps, in order within a response."""
        values, right = rewards.float(), labels > 0.5
        rivals = (values + self.margin * ~right).expand(len(values), -1)
        rivals = rivals.masked_fill(~_compared(right, group), -math.inf)
        terms = (rivals.logsumexp(1) - values) * right
        return group_sums(terms, group) / group_sums(right.float(), group).clamp(min=1)


def _compared(right: Tensor, group: Tensor) -> Tensor:
    """True where the sum of the row's step has the column's step; [N], [N] -> [N, N].

    Both steps are of one response, and the column's step is wrong, or right and not later than the row's.
    """
    no_later = torch.ones(len(right), len(right), dtype=torch.bool, device=right.device).tril()
    return (group.unsqueeze(1) == group.unsqueeze(0)) & (~right | no_later)
