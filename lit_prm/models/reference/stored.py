"""Reference log-probs that are computed once per response and kept in a file."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Dtype
from lit_prm.models.logps import token_logps
from lit_prm.models.probes import in_eval_mode
from lit_prm.models.reference.base import Frozen, Reference
from lit_prm.models.reference.rows import ANY, ReadOnlyStore, StoreRow, part_of, placed, row_of
from lit_prm.models.reference.store import Logps, LogpStore
from lit_prm.models.shared_prompts import PART
from lit_prm.models.weights import weights_id
from lit_prm.models.zero_weights import Item, in_step


class Stored(Reference):
    """Log-probs of a frozen model, computed once per response and kept in a file.

    An entry's address is a hash of the reference's weights, the precision they compute in and the token ids. So
    losses, epochs, seeds and validation share entries, a killed pass continues where it stopped, and one store can
    hold several references. The model is loaded only while entries are missing. With ``from_policy`` it is never
    loaded: the policy computes missing entries before its first update, under ZeRO-3 with all ranks in step.

    Entries are computed in parts whose shape depends on the response's own length alone, never on the batch that it
    is in: a matrix product of another shape rounds differently, and a run's numbers would depend on earlier runs.
    """

    keeps_copies = True

    @property
    def model_name(self) -> str:
        return self.source.name

    PART = PART  # tokens of one part, by type of device
    LONG = 128  # tokens that a CPU multiplies nearly as fast alone (62 GFLOP/s) as eight times as many (70)
    WIDTHS = 16  # the width of a part is a multiple of this
    SAMPLE = 4  # entries that are computed again before a store is trusted

    def __init__(self, model: str, path: str, dtype: Dtype = "float32", from_policy: bool = False) -> None:
        self.source = Frozen(model, dtype, attention=None)  # parts need no packing: they have no padding
        self.store = LogpStore(path)
        self.from_policy = from_policy
        self._policy: PreTrainedModel | None = None  # set while it still has the weights that it was loaded with
        self.requested = self.misses = 0  # responses, since the last pass began
        self._weights_ids: dict[Dtype, bytes] = {}

    @classmethod
    def as_exported(cls, init_args: Mapping[str, Any]) -> tuple[type[Reference], dict[str, Any]]:
        """The frozen model whose log-probs are stored: whoever loads an export lacks the store."""
        return Frozen, {name: value for name, value in init_args.items() if name in ("model", "dtype")}

    def prepare(self, batches: Iterable[Batch], device: torch.device, untrained: PreTrainedModel | None = None) -> str:
        self.requested = self.misses = 0
        if self.from_policy and untrained is not None:
            self._refuse_other_model(untrained)
            self._policy = untrained  # computes missing entries
        try:
            with in_eval_mode(self._policy) if self._policy else nullcontext():
                self._verify(self._fill(batches, device), device)
        finally:
            self._policy = None
        self.source.release()
        return self._summary()

    def _refuse_other_model(self, policy: PreTrainedModel) -> None:
        own, other = (self.source.name, self.source.dtype), (policy.name_or_path, str(policy.dtype)[len("torch.") :])
        if other != own:
            raise ValueError(
                f"model.reference has from_policy, but the reference is {own[0]} in {own[1]} and the policy is "
                f"{other[0]} in {other[1]}. To use from_policy, give both the same model and dtype; else set it to "
                "false."
            )

    @property
    def only_at_start(self) -> bool:
        return self.from_policy

    def over_hosts(self) -> None:
        self.store.over_hosts = True

    def _summary(self) -> str:
        """How many responses of the last pass were stored already, and how large the store is."""
        entries, size = self.store.size()
        stored, requested = self.requested - self.misses, self.requested
        return (
            f"reference log-probs: {stored:,} of {requested:,} responses were stored, {self.misses:,} computed; "
            f"{self.store.path} holds {entries:,} ({size / 1e6:.1f} MB)"
        )

    def logps(self, batch: Batch) -> Tensor:
        rows = self._read(batch)
        if any(row is None for row in rows):
            self._fill([batch], batch.ids.device)
            rows = self._read(batch)
        return placed(batch, rows, self.store.path)

    def identity(self) -> dict[str, Any]:
        return self.source.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self.source.compute_in(dtype)  # entries of another type have other addresses

    def read_only(self) -> Reference:
        return ReadOnlyStore(self._read, self.source, self.store.path)

    def _read(self, batch: Batch) -> list[Logps | None]:
        """The entry of every response, None where there is none."""
        return self.store.read(self._addresses(batch))

    def _fill(self, batches: Iterable[Batch], device: torch.device) -> list[tuple[StoreRow, Logps]]:
        """Compute what is missing, each part in one transaction. Returns a few of the entries that were stored."""
        stored: list[tuple[StoreRow, Logps]] = []
        for rows in self._in_step(self._missing(batches, device, stored)):
            logps = self._logps_of(rows or [ANY], device)
            if rows is not None:
                self.misses += len(rows)
                self.store.write(zip((row.address for row in rows), logps, strict=True))
        return stored

    def _missing(
        self, batches: Iterable[Batch], device: torch.device, stored: list[tuple[StoreRow, Logps]]
    ) -> Iterator[list[StoreRow]]:
        """Parts of rows of one width that the store lacks. A few rows that it has are appended to ``stored``."""
        waiting: dict[int, list[StoreRow]] = {}
        missing: set[bytes] = set()  # a response that occurs again is computed once, and counted as neither
        for batch in batches:
            addresses = self._addresses(batch, device)
            for i, (address, entry) in enumerate(zip(addresses, self.store.read(addresses), strict=True)):
                if address in missing:
                    continue
                self.requested += 1
                if entry is not None:
                    stored += [(row_of(batch, i, address), entry)] if len(stored) < self.SAMPLE else []
                    continue
                missing.add(address)
                row = row_of(batch, i, address)
                width = self._width(row)
                part = waiting.setdefault(width, [])
                part.append(row)
                if len(part) == self._height(width, device):
                    yield waiting.pop(width)
        yield from waiting.values()

    def _verify(self, stored: Sequence[tuple[StoreRow, Logps]], device: torch.device) -> None:
        """Compute a few stored entries again and compare.

        Addresses name the weights by the hash of their content, but another release or device may give other log-probs.
        The check runs whenever the model is in memory, else once per release and device. A policy that has begun to
        train cannot make it.
        """
        key = hashlib.sha256(self._weights_id() + repr(_circumstances(device)).encode()).digest()
        in_memory = self._policy is not None or self.source.loaded
        if not in_memory and (self.from_policy or self.store.was_checked(key)):
            return
        tolerance = 1e-3 if self.source.dtype == "float32" and not _autocast_dtype(device) else 0.3
        for pair in self._in_step(stored):
            row, entry = pair or (ANY, None)
            (again,) = self._logps_of([row], device)
            if entry is None:
                continue
            error = float(np.abs(again - entry).max(initial=0)) if again.shape == entry.shape else math.inf
            if not error <= tolerance:
                raise ValueError(
                    f"{self.store.path} holds log-probs that {self.source.name} does not give: {error:.3g} apart, more "
                    f"than {tolerance:g}. The store is damaged, or this device or release computes otherwise. Remove "
                    "the store; the next run fills it again."
                )
        self.store.note_checked(key)

    def _width(self, row: StoreRow) -> int:
        return -(-len(row.ids) // self.WIDTHS) * self.WIDTHS

    def _height(self, width: int, device: torch.device) -> int:
        """Rows of a part (some repeated if fewer wait). On a CPU a long response is a part of its own."""
        alone = device.type == "cpu" and width >= self.LONG
        return 1 if alone else max(self.PART[device.type] // width, 1)

    def _logps_of(self, rows: Sequence[StoreRow], device: torch.device) -> list[Logps]:
        width = self._width(rows[0])
        repeated = [*rows, *[rows[0]] * (self._height(width, device) - len(rows))]
        logps = self._run(part_of(repeated, width, device)).cpu().numpy()
        return [out[row.prompt : len(row.ids)] for row, out in zip(rows, logps, strict=False)]

    @torch.no_grad()
    def _run(self, part: Batch) -> Tensor:
        if not self.from_policy:
            return self.source.logps(part)
        if self._policy is None:
            raise ValueError(
                f"{self.store.path} lacks log-probs of some responses, and model.reference has from_policy: only a run "
                "that starts from its base model can compute them, before its first update. Set from_policy to false."
            )
        return token_logps(self._policy, part)

    def _in_step(self, items: Iterable[Item]) -> Iterator[Item | None]:
        """The items, then None while other ranks have more of them and the sharded policy must be called with them."""
        return iter(items) if self._policy is None else in_step(items, self._policy)

    def _addresses(self, batch: Batch, device: torch.device | None = None) -> list[bytes]:
        salt = self._weights_id() + _autocast_dtype(device or batch.ids.device).encode()
        return [hashlib.sha256(salt + key).digest() for key in batch.keys()]  # noqa: SIM118

    def _weights_id(self) -> bytes:
        dtype = self.source.dtype
        if dtype not in self._weights_ids:
            self._weights_ids[dtype] = weights_id(self.source.name, dtype).encode()
        return self._weights_ids[dtype]


def _autocast_dtype(device: torch.device) -> str:
    """The precision that autocast makes a model compute in on this device; empty without autocast."""
    return str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else ""


def _circumstances(device: torch.device) -> tuple[str, ...]:
    """What may change a model's log-probs beside its weights: releases, device, precision."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return (torch.__version__, transformers.__version__, device.type, name, _autocast_dtype(device))
