"""Cross-entropy on unpaired responses."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_prm.losses.base import Loss


class CE(Loss):
    """-[l log sigma(r) + (1 - l) log(1 - sigma(r))] for every response (eq. 5 of the paper, sign fixed).

    Computed from logits: in float32 the sigmoid of a reward of +-20 rounds to 0 or 1, and the gradient would vanish
    for exactly those responses that the model is most wrong about.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(rewards.float(), labels.float(), reduction="none")
