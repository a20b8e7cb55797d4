"""Memory of one device by part, at the moment that needs most of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

from lit_prm.commands.plan.lengths import MicroBatch
from lit_prm.commands.plan.network import Weights
from lit_prm.commands.plan.setup import Setup
from lit_prm.commands.plan.sharding import Optimizing, Trained
from lit_prm.commands.plan.trace import Pass, optimizer_memory, step_memory
from lit_prm.models.logps import CHUNK
from lit_prm.models.reference import Stored

# Assumed, not measured: a CUDA context with its kernels, NCCL's channels, and what the allocator cannot use.
CUDA_CONTEXT = 2_000_000_000
# Measured on a CPU: a run of scale tiny took 723 MB at most, 67 of them its training step; 483 MB after imports.
CPU_IMPORTS = 650_000_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device; the parts add up to its peak."""

    parts: dict[str, int]  # activations are kept for the backward pass, with casts of weights
    busiest: str  # the part that a step needs on top at its busiest moment: logits, layer, embedding, update
    filling: int = 0  # peak of the pass that fills the reference store before training
    on_host: int = 0  # bytes of the machine's main memory, for this device

    @property
    def total(self) -> int:
        """The peak of training."""
        return sum(self.parts.values())

    @property
    def peak(self) -> int:
        """The peak of the whole run."""
        return max(self.total, self.filling)

    def as_numbers(self) -> dict[str, int]:
        """All of these by name, as the plan's JSON has them."""
        return self.parts | {"total": self.total, "filling": self.filling, "host": self.on_host}


def memory(config: Any, weights: Weights, setup: Setup, longest: MicroBatch) -> Memory:
    """Memory of a device that trains on its ``longest`` micro-batch.

    Gradients of the update before, or of earlier micro-batches of this one, are in memory during its forward pass,
    because Lightning clears gradients only between forward and backward pass.
    """
    trained = Trained(weights, setup.weights_in, setup.ranks, _optimizing(setup), setup.on_gpu, setup.frozen_in)
    spread = setup.sharding.spread(trained)
    case = Pass(
        longest.tokens, longest.outputs if setup.word_head else 0, setup.frozen_in, setup.autocast, setup.checkpointing,
        setup.adapter, longest.rows, "eager" if setup.attention == "eager" else None,
    )  # fmt: skip
    step = step_memory(config, case)
    moments = {
        "logits": step.head,
        "layer": step.layer,
        "embedding": step.embedding - step.kept,
        "update": spread.update - step.kept,
    }
    busiest = max(moments, key=lambda name: moments[name])
    own = weights.trained if setup.lora else 0  # the adapter, which the reference does not have
    reference = (weights.all - own) * setup.reference_in.itemsize
    framework = CUDA_CONTEXT if setup.on_gpu else CPU_IMPORTS
    parts = {
        "weights": spread.weights,
        "gradients": spread.gradients,
        "optimizer": spread.optimizer,
        "reference": reference if setup.reference == "live" else 0,
        "communication": spread.communication,
        "activations": step.kept,
        busiest: max(moments[busiest], 0),
        "framework": framework,
    }
    filling = spread.at_start + framework + _filling(config, reference, weights, setup) if setup.readings_stored else 0
    return Memory(parts, busiest, filling, spread.on_host)


def _filling(config: Any, reference: int, weights: Weights, setup: Setup) -> int:
    """Bytes that filling the store adds: the reference (or autocast's copies of the policy) and the logits of one part.

    Logits are there in the type they are computed in and in float32.
    """
    positions = min(Stored.PART["cuda" if setup.on_gpu else "cpu"], CHUNK)
    logits = positions * int(config.vocab_size) * (setup.computes_in.itemsize + 2 * 4)
    casts = weights.trained * setup.computes_in.itemsize if setup.autocast else 0
    return logits + (casts if setup.filled_by == "policy" else reference)


def _optimizing(setup: Setup) -> Optimizing:
    make: Any = setup.optimizer
    options = setup.optimizer_options
    if setup.on_gpu and "foreach" in signature(make).parameters:
        options = (*((k, v) for k, v in options if k != "foreach"), ("foreach", True))  # torch's default on GPUs
    return partial(optimizer_memory, make, options)
