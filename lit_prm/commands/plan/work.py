"""FLOPs of a planned run, counted as `lit_prm.models.flops` counts those of a real run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from lit_prm.commands.plan.lengths import EpochLengths
from lit_prm.commands.plan.setup import Setup
from lit_prm.models.flops import Work, backward, forward, shape_of


def flops_of(config: Any, setup: Setup, lengths: EpochLengths) -> dict[str, int]:
    """FLOPs of training on every response in every epoch, and of the reference; ``total`` is their sum.

    A stored reference reads each response once, a live one in every epoch. Training counts gradients of all weights, as
    the cost metrics of runs do; training an adapter really needs a third less. What gradient checkpointing recomputes
    counts in the hours, not in a run's cost.
    """
    shape = shape_of(config)
    epoch = lengths.read if setup.word_head else replace(lengths.read, outputs=0)
    epochs = min(setup.epochs, (setup.most_updates or math.inf) / lengths.updates)
    once = forward(shape, epoch)
    again = once if setup.mismatched else 0
    saved = lengths.repeated if setup.shares else Work()
    read = Work(epoch.tokens - saved.tokens, epoch.contexts - saved.contexts, epoch.outputs)
    body = replace(read, outputs=0)
    readings = (epochs if setup.reference in ("live", "adapter off") else 0) + (setup.filled_by != "nobody")
    flops = {
        "training": round(epochs * (forward(shape, read) + backward(shape, read) + again)),
        "recomputed": round(epochs * forward(shape, body)) if setup.checkpointing else 0,
        "reference": round(readings * (once + again)),
    }
    return flops | {"total": sum(flops.values())}
