"""Direct preference optimisation on pairs of a problem."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.pairs import PairLoss


class DPO(PairLoss):
    """-log sigma(r_w - r_l) for every pair of a right response w and a wrong one l (Rafailov 2023)."""

    def terms(self, right: Tensor, wrong: Tensor) -> Tensor:
        return -logsigmoid(right - wrong)
