"""FLOPs of a planned run, counted as `lit_prm.models.flops` counts those of a real run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lit_prm.commands.plan.lengths import EpochLengths
from lit_prm.commands.plan.setup import Setup
from lit_prm.models.flops import Work, backward, forward, shape_of


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs of a whole run."""

    training: int
    recomputed: int  # by gradient checkpointing: counted in the hours, not in a run's cost
    reference: int

    @property
    def total(self) -> int:
        """All FLOPs that devices compute."""
        return self.training + self.recomputed + self.reference


def work_of(config: Any, setup: Setup, lengths: EpochLengths) -> Flops:
    """FLOPs of training on every response in every epoch, and of the reference.

    A stored reference reads each response once, a live one in every epoch. Training counts gradients of all weights, as
    the cost metrics of runs do; training an adapter really needs a third less.
    """
    shape = shape_of(config)
    outputs = lengths.response_tokens if setup.word_head else 0
    epochs = min(setup.epochs, (setup.most_updates or math.inf) / lengths.updates)
    epoch = Work(lengths.tokens, round(lengths.mean_contexts * lengths.responses), outputs)
    once = forward(shape, epoch)
    again = once if setup.mismatched else 0
    saved = lengths.repeated if setup.shares else Work()
    read = Work(epoch.tokens - saved.tokens, epoch.contexts - saved.contexts, outputs)
    live = epochs if setup.reference in ("live", "adapter off") else 0
    filled = 0 if setup.filled_by == "nobody" else 1
    return Flops(
        training=round(epochs * (forward(shape, read) + backward(shape, read) + again)),
        recomputed=round(epochs * forward(shape, Work(read.tokens, read.contexts))) if setup.checkpointing else 0,
        reference=round((live + filled) * (once + again)),
    )
