"""Bytes of weights, gradients and optimizer that each strategy keeps on one device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from lit_prm.commands.plan.network import Weights
from lit_prm.commands.plan.trace import Optimized

Optimizing = Callable[[int, torch.dtype], Optimized]  # bytes of an optimizer of so many weights of this type


class Trained(NamedTuple):
    """A model that ``ranks`` devices train together."""

    weights: Weights
    dtype: torch.dtype  # of the trained weights
    ranks: int
    optimizing: Optimizing
    on_gpu: bool
    frozen_dtype: torch.dtype | None = None  # of the other weights; None if it is the same


class Spread(NamedTuple):
    """Bytes of one device that do not depend on the micro-batch."""

    weights: int
    gradients: int
    optimizer: int
    communication: int
    at_start: int  # bytes of these four before the first update
    update: int  # bytes on top of all others while weights are updated
    on_host: int = 0  # bytes of the machine's main memory, for this device


class Sharding(ABC):
    """How a strategy spreads a model over the devices that train it together."""

    has_masters: ClassVar[bool]  # True if float32 copies of the weights are kept beside those that compute

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in tables."""

    @abstractmethod
    def spread(self, model: Trained) -> Spread:
        """Bytes that one device keeps of ``model``."""


@dataclass(frozen=True, slots=True)
class Whole(Sharding):
    """Every device keeps everything: one device, or DDP, whose buckets are a second copy of the gradients."""

    has_masters: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return "DDP"

    def spread(self, model: Trained) -> Spread:
        weights, size = model.weights, model.dtype.itemsize
        # on a GPU all tensors are updated at once, on a CPU one after the other
        at_once = weights.trained if model.on_gpu else min(weights.trained, weights.largest)
        frozen = (weights.all - weights.trained) * (model.frozen_dtype or model.dtype).itemsize
        held = weights.trained * size + frozen
        buckets = weights.trained * size if model.ranks > 1 else 0
        return Spread(
            weights=held,
            gradients=weights.trained * size,
            optimizer=model.optimizing(weights.trained, model.dtype).kept,
            communication=buckets,
            at_start=held + buckets,
            update=model.optimizing(at_once, model.dtype).work,
        )


@dataclass(frozen=True, slots=True)
class Zero(Sharding):
    """DeepSpeed's ZeRO (Rajbhandari et al. 2020): shards the optimizer (1), also gradients (2), also weights (3).

    ZeRO keeps float32 copies of the weights it trains, whatever the precision. An update makes float32 gradients: in
    stage 3 of at most ``sub_group`` of the device's own weights at a time, in stages 1 and 2 of all of them. Stage 3
    gathers at most ``live`` weights and the largest tensor at a time.
    """

    stage: int
    bucket: int = 200_000_000  # numbers in one reduction; all defaults are those of Lightning's strategy
    buckets: int = 2  # one is filled while the other is sent
    sub_group: int = 10**12
    live: int = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters
    offload: bool = False

    has_masters: ClassVar[bool] = True

    @classmethod
    def of(cls, options: dict[str, Any]) -> Zero:
        """ZeRO with the options of ``lit_prm.training.zero.ZeRO``, which are those of Lightning's DeepSpeedStrategy."""
        if options.get("offload_parameters") or options.get("config"):
            raise ValueError(
                "the memory of DeepSpeed with offload_parameters or a config file is unknown. Plan without "
                "offload_parameters and config, or measure the run"
            )
        return cls(
            stage=int(options["stage"]),
            bucket=int(options.get("reduce_bucket_size", 200_000_000)),
            buckets=2 if options.get("overlap_comm", True) else 1,
            sub_group=int(options.get("sub_group_size", 10**12)),
            offload=bool(options.get("offload_optimizer")),
        )

    @property
    def name(self) -> str:
        return f"ZeRO-{self.stage}" + (" offload" if self.offload else "")

    def spread(self, model: Trained) -> Spread:
        weights, size, optimizing = model.weights, model.dtype.itemsize, model.optimizing
        own = -(-weights.trained // model.ranks)
        part = min(self.sub_group, own) if self.stage == 3 else own
        masters = 4 * own + optimizing(own, torch.float32).kept
        update = 4 * part + optimizing(part, torch.float32).work
        gathered = min(weights.all, self.live + weights.largest) if self.stage == 3 else 0
        in_buckets = self.buckets * min(self.bucket, weights.trained) if model.ranks > 1 else 0
        parts = (
            size * (-(-weights.all // model.ranks) if self.stage == 3 else weights.all),
            size * (own if self.stage >= 2 else weights.trained),
            0 if self.offload else masters,
            size * (in_buckets + gathered),
        )
        return Spread(
            *parts,
            at_start=sum(parts),  # DeepSpeed allocates the optimizer's state when its engine starts
            update=0 if self.offload else update,
            on_host=masters + 4 * own if self.offload else 0,
        )
