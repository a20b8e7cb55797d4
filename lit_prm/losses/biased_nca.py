"""Noise-contrastive alignment on pairs without the term that makes the estimate unbiased."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.pairs import PairLoss


class BiasedNCA(PairLoss):
    """-log sigma(r_w) - log sigma(-r_l) for every pair of a right response w and a wrong one l.

    The loss raises the reward of w above 0 and lowers that of l below 0. Each response counts once for every pair
    that it is in; on pairs that share no response the sum of the terms equals that of CE.
    """

    def terms(self, right: Tensor, wrong: Tensor) -> Tensor:
        return -logsigmoid(right) - logsigmoid(-wrong)
