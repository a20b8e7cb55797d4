"""Noise-contrastive alignment on pairs of a problem."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.pairs import PairLoss


class NCA(PairLoss):
    """-log sigma(r_w) - 1/2 log sigma(-r_w) - 1/2 log sigma(-r_l) (Chen 2024, as thu-ml and TRL's ``nca_pair``).

    Unlike DPO this loss depends on each reward, not only on their difference: the right response's reward has a
    finite optimum, and the two rewards cannot fall together.
    """

    def terms(self, right: Tensor, wrong: Tensor) -> Tensor:
        return -logsigmoid(right) - 0.5 * (logsigmoid(-right) + logsigmoid(-wrong))
