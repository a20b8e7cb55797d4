"""Noise-contrastive alignment on pairs of a problem."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.pairs import PairLoss


class NCA(PairLoss):
    """-log sigma(r_w) - 1/2 log sigma(-r_w) - 1/2 log sigma(-r_l) (Chen 2024, as thu-ml and TRL's ``nca_pair``).

    Unlike DPO's it depends on each reward itself: the right response's is drawn to a finite optimum instead of
    both falling together.
    """

    def terms(self, right: Tensor, wrong: Tensor) -> Tensor:
        return -logsigmoid(right) - 0.5 * (logsigmoid(-right) + logsigmoid(-wrong))
