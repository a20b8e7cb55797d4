"""Noise-contrastive alignment on pairs, without the term that makes it unbiased."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.pairs import PairLoss


class BiasedNCA(PairLoss):
    """-log sigma(r_w) - log sigma(-r_l) for every pair: the right one above 0, the wrong one below.

    On pairs that share no response it is CE twice over: each response counts once for every pair it is in.
    """

    def terms(self, right: Tensor, wrong: Tensor) -> Tensor:
        return -logsigmoid(right) - logsigmoid(-wrong)
