"""Direct preference optimisation on all right x wrong pairs of a problem."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_prm.losses.base import Loss


class DPO(Loss):
    """-log sigma(r_w - r_l) for every right response w and wrong response l of the same problem.

    Pairs are formed from rewards already computed: K responses cost K forwards, whatever the number of
    pairs. A problem whose responses are all right or all wrong has no pair and no term (Rafailov 2023).
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        right, wrong = preference_pairs(labels, group)
        rewards = rewards.float()
        return -logsigmoid(rewards[right] - rewards[wrong])


def preference_pairs(labels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (right, wrong) of every pair inside a problem, in row order; [N], [N] -> [P], [P]."""
    same_problem = group.unsqueeze(1) == group.unsqueeze(0)
    is_pair = same_problem & (labels > 0.5).unsqueeze(1) & (labels < 0.5).unsqueeze(0)
    right, wrong = is_pair.nonzero(as_tuple=True)
    return right, wrong
