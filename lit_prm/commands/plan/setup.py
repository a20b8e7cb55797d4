"""The settings of a run that decide its memory and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lit_prm.commands.plan.network import Adapter
from lit_prm.commands.plan.sharding import Sharding
from lit_prm.models.packed_rows import FLASH, PACKED


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to train one model on ``ranks`` equal devices."""

    policy: str
    sharding: Sharding
    ranks: int
    nodes: int
    precision: str  # value of the trainer's option
    dtype: torch.dtype  # of the weights when the reward model loads them
    lora: tuple[int, tuple[str, ...], float] | None  # rank, targets and dropout if only an adapter is trained
    attention: str  # value of the reward model's option
    checkpointing: bool
    accumulate: int
    batch_size: int
    responses: int | None  # of each problem; None for all
    share_prompts: bool
    max_length: int
    epochs: float  # infinite if only updates are bounded
    most_updates: int | None  # bound on the updates of the whole run
    word_head: bool  # True if rewards come from log-probs, not from a value head
    mismatched: bool  # True if every response is read again after another prompt, without gradient (KTO)
    reference: str  # kind of the reference: stored, live, adapter off, none
    filled_by: str  # model that fills the store, for rewards or only for baselines: reference, policy, nobody
    same_model: bool  # True if policy and reference start from the same model
    reference_dtype: torch.dtype  # value of the reference's option
    optimizer: type[torch.optim.Optimizer]
    optimizer_options: tuple[tuple[str, Any], ...]
    on_gpu: bool

    @property
    def computes_in(self) -> torch.dtype:
        """Type of weights and activations in the forward pass, except what autocast keeps in float32."""
        return torch.float32 if self.precision.startswith("32") else torch.bfloat16

    @property
    def casts(self) -> bool:
        """True if strategy or precision cast all weights to the type of the computation."""
        return self.sharding.has_masters or self.precision.endswith("true")

    @property
    def weights_in(self) -> torch.dtype:
        """Type of the trained weights; those of a peft adapter are float32 unless ``casts``."""
        if self.casts:
            return self.computes_in
        return torch.float32 if self.lora else self.dtype

    @property
    def frozen_in(self) -> torch.dtype:
        """Type of the frozen weights below an adapter."""
        return self.computes_in if self.casts else self.dtype

    @property
    def reference_in(self) -> torch.dtype:
        """Type of the reference's weights; runs load them in bfloat16 if they cast the policy's to bfloat16."""
        return self.computes_in if self.casts and self.computes_in != torch.float32 else self.reference_dtype

    @property
    def policy_may_fill(self) -> bool:
        """True if the policy has the log-probs of the reference before its first update and can fill the store."""
        return self.same_model and self.reference_in == self.frozen_in

    @property
    def adapter(self) -> Adapter | None:
        return Adapter(*self.lora, self.weights_in) if self.lora else None

    @property
    def packs(self) -> bool:
        """True if responses run end to end without padding; the plan assumes that the model can with "auto"."""
        return self.attention in ("auto", PACKED, *FLASH)

    @property
    def shares(self) -> bool:
        """True if a prompt runs once for all its responses in a micro-batch, without padding."""
        return self.share_prompts and self.packs

    @property
    def readings_stored(self) -> int:
        """How often the store holds the reference's log-probs of a response: after each prompt that training reads."""
        return 0 if self.filled_by == "nobody" else 2 if self.mismatched else 1

    @property
    def autocast(self) -> bool:
        """True if every matrix product casts its weights first."""
        return self.weights_in != self.computes_in

    @property
    def strategy(self) -> str:
        """Name of the strategy in tables."""
        return self.sharding.name if self.ranks > 1 or self.sharding.has_masters else "one device"

    @property
    def cuts(self) -> int:
        """Micro-batches of an update, over all devices."""
        return self.accumulate * self.ranks
