"""Cross-entropy at every prefix of a response."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.base import Loss, Observed, View
from lit_prm.losses.segments import group_log_softmax, group_sums, numbered, place_in_group


class PrefixCE(Loss):
    """-sum_t w_t [l log sigma(v_t - m) + (1 - l) log(1 - sigma(v_t + m))] for every response (IPVRM, arXiv 2604.13197).

    v_t is the value q_t of the prefix of t response tokens, divided by t with ``normalise``. The values of right
    responses should exceed ``margin`` m, those of wrong responses should fall below -m. The weight w_t is
    proportional to (t / T)^late and sums to 1 over a response: ``late`` = 0 is the plain mean of the paper, a positive
    one favours long prefixes, a negative one short prefixes.
    """

    def __init__(self, margin: float = 5.0, normalise: bool = True, late: float = 0.0) -> None:
        if not 0 <= margin < math.inf:
            raise ValueError(
                f"margin {margin} is not a finite number >= 0. Give a margin, for example 5, the paper's at beta 10."
            )
        if not math.isfinite(late):
            raise ValueError(
                f"late {late} is not finite. Give the exponent of the prefix weights (t / T)^late, 0 for equal weights."
            )
        self.margin = margin
        self.normalise = normalise
        self.late = late

    def observe(self, view: View) -> Observed:
        """The value of the prefix ending at every response token, in order; group is the response's row."""
        mask = view.in_response
        tokens = mask.cumsum(1).clamp(min=1)  # t at response tokens; [B, T]
        values = view.values / tokens if self.normalise else view.values
        response = torch.arange(len(mask), device=mask.device).unsqueeze(1).expand_as(mask)
        return Observed(values[mask], view.labels.unsqueeze(1).expand_as(mask)[mask], response[mask])

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """One term per response; [N] prefix values, in order within a response."""
        values, labels = rewards.float(), labels.float()
        likelihoods = labels * logsigmoid(values - self.margin) + (1 - labels) * logsigmoid(-values - self.margin)
        return -group_sums(self._weights(group) * likelihoods, group)

    def _weights(self, group: Tensor) -> Tensor:
        """(t / T)^late divided by its sum over the response; [N] -> [N]."""
        index, _ = numbered(group)
        share = (place_in_group(group) + 1).float() / index.bincount()[index]
        return group_log_softmax(self.late * share.log(), group).exp()

    def num_terms(self, labels: Tensor, group: Tensor) -> int:
        return labels.numel()
