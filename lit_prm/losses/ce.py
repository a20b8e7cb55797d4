"""Cross-entropy on unpaired responses."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_prm.losses.base import Loss


class CE(Loss):
    """-[l log sigma(r) + (1 - l) log(1 - sigma(r))] for every response (eq. 5 of the paper, sign fixed).

    In the form with logits: the sigmoid of a reward of +-20 rounds to 0 or 1 in float32, and with it
    the gradient of exactly those responses the model is most wrong about.
    """

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(rewards.float(), labels.float(), reduction="none")
