"""Reference log-probs that are computed once per response and kept in a file."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Dtype
from lit_prm.models.logps import token_logps
from lit_prm.models.reference.base import Frozen, Reference
from lit_prm.models.reference.rows import ANY, StoreRow, part_of, placed, row_of
from lit_prm.models.reference.store import Logps, LogpStore
from lit_prm.models.shared_prompts import PART
from lit_prm.models.weights import commit_of
from lit_prm.models.zero_weights import Item, in_step


class Stored(Reference):
    """Log-probs of a frozen model, computed once per response and kept in a file.

    The address of an entry is its content: the reference's weights, the precision they compute in and the
    token ids. So losses, epochs, seeds and validation share entries, a killed pass goes on where it was, and
    a store can hold several references. The model is loaded only while something is missing; with ``from_policy``
    never: the policy itself computes what is missing before its first update, cut over all ranks if it is.

    Entries are computed in parts whose shape depends on the response's own length alone, never on the batch
    that asked: a matrix product of another shape rounds differently, and a run's numbers would depend on
    which run came before it.
    """

    PART = PART  # tokens of one part, by type of device
    LONG = 128  # tokens that a CPU multiplies nearly as fast alone (62 GFLOP/s) as eight times as many (70)
    WIDTHS = 16  # a part is a multiple of this wide
    SAMPLE = 4  # entries that are computed again before a store is believed

    def __init__(self, model: str, path: str, dtype: Dtype = "float32", from_policy: bool = False) -> None:
        self.source = Frozen(model, dtype, attention=None)  # of parts without padding
        self.store = LogpStore(path)
        self.from_policy = from_policy
        self._policy: PreTrainedModel | None = None  # while it is what it was loaded as
        self.asked = self.misses = 0  # responses, since the last pass began
        self._salt = b""

    def prepare(self, batches: Iterable[Batch], device: torch.device, untrained: PreTrainedModel | None = None) -> str:
        self.asked = self.misses = 0
        with self._asking(untrained if self.from_policy else None):
            self._verify(self._fill(batches, device), device)
        self.source.release()
        return self.told()

    @contextmanager
    def _asking(self, policy: PreTrainedModel | None) -> Iterator[None]:
        """Inside, this policy computes."""
        if policy is None:
            yield
            return
        self._refuse_other(policy)
        training, self._policy = policy.training, policy.eval()
        try:
            yield
        finally:
            self._policy = None
            policy.train(training)

    def _refuse_other(self, policy: PreTrainedModel) -> None:
        mine, theirs = (self.source.name, self.source.dtype), (policy.name_or_path, str(policy.dtype)[len("torch.") :])
        if theirs != mine:
            raise ValueError(
                f"model.reference has from_policy, but it is {mine[0]} in {mine[1]} and the policy {theirs[0]} in "
                f"{theirs[1]}; give both the same model and dtype, or set from_policy to false"
            )

    @property
    def only_at_start(self) -> bool:
        return self.from_policy

    def over_hosts(self) -> None:
        self.store.over_hosts = True

    def told(self) -> str:
        """How much of what the last pass asked for was there, and how large the store is."""
        entries, size = self.store.size()
        found, asked = self.asked - self.misses, self.asked
        return (
            f"reference log-probs: {found:,} of {asked:,} responses were stored, {self.misses:,} computed; "
            f"{self.store.path} holds {entries:,} ({size / 1e6:.1f} MB)"
        )

    def logps(self, batch: Batch) -> Tensor:
        addresses = self._addresses(batch)
        rows = self.store.read(addresses)
        if any(row is None for row in rows):
            self._fill([batch], batch.ids.device)
            rows = self.store.read(addresses)
        return placed(batch, rows, self.store.path)

    def identity(self) -> dict[str, Any]:
        return self.source.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self.source.compute_in(dtype)
        self._salt = b""  # entries of another type have other addresses

    def read_only(self) -> Reference:
        return _Looked(self)

    def known(self, batch: Batch) -> list[Logps | None]:
        """The entry of every response, None where there is none."""
        return self.store.read(self._addresses(batch))

    def _fill(self, batches: Iterable[Batch], device: torch.device) -> list[tuple[StoreRow, Logps]]:
        """Compute what is missing, and return a few of the entries that were there.

        Parts are full but for the last of each width.
        """
        there: list[tuple[StoreRow, Logps]] = []
        for rows in self._in_step(self._missing(batches, device, there)):
            if rows is None:
                self._logps_of([ANY], device)
            else:
                self._compute(rows, device)
        return there

    def _missing(
        self, batches: Iterable[Batch], device: torch.device, there: list[tuple[StoreRow, Logps]]
    ) -> Iterator[list[StoreRow]]:
        """Parts of rows of one width that the store lacks; a few that it has are put ``there``."""
        waiting: dict[int, list[StoreRow]] = {}
        found: set[bytes] = set()  # missing: a response that occurs again is not computed again, nor was it stored
        for batch in batches:
            addresses = self._addresses(batch, device)
            for i, (address, entry) in enumerate(zip(addresses, self.store.read(addresses), strict=True)):
                if address in found:
                    continue
                self.asked += 1
                if entry is not None:
                    there += [(row_of(batch, i, address), entry)] if len(there) < self.SAMPLE else []
                    continue
                found.add(address)
                row = row_of(batch, i, address)
                width = self._width(row)
                part = waiting.setdefault(width, [])
                part.append(row)
                if len(part) == self._height(width, device):
                    yield waiting.pop(width)
        yield from waiting.values()

    def _verify(self, there: Sequence[tuple[StoreRow, Logps]], device: torch.device) -> None:
        """Compute a few entries again: whenever the model is in memory, else once for each release and device; not by a
        policy that has begun to train.

        Addresses name weights by file times, not by a hash of gigabytes at every start.
        """
        circumstances = hashlib.sha256(self._salt + repr(_circumstances(device)).encode()).digest()
        in_memory = self._policy is not None or self.source.loaded
        if not in_memory and (self.from_policy or self.store.was_checked(circumstances)):
            return
        most = 1e-3 if self.source.dtype == "float32" and not _autocast(device) else 0.3
        for found in self._in_step(there):
            row, entry = found or (ANY, None)
            (again,) = self._logps_of([row], device)
            if entry is None:
                continue
            far = float(np.abs(again - entry).max(initial=0)) if again.shape == entry.shape else math.inf
            if not far <= most:
                raise ValueError(
                    f"{self.store.path} holds log-probs that {self.source.name} does not give: {far:.3g} apart, more "
                    f"than {most:g}; weights changed behind their file's time, or the file is damaged: remove it, it "
                    "is filled again"
                )
        self.store.note_checked(circumstances)

    def _width(self, row: StoreRow) -> int:
        return -(-len(row.ids) // self.WIDTHS) * self.WIDTHS

    def _height(self, width: int, device: torch.device) -> int:
        """Rows of a part, repeated ones where fewer wait; a response that fills a CPU's products is one alone."""
        alone = device.type == "cpu" and width >= self.LONG
        return 1 if alone else max(self.PART[device.type] // width, 1)

    def _compute(self, rows: Sequence[StoreRow], device: torch.device) -> None:
        """Log-probs of rows of one width, committed in one transaction."""
        logps = self._logps_of(rows, device)
        self.misses += len(rows)
        self.store.write(zip((row.address for row in rows), logps, strict=True))

    def _logps_of(self, rows: Sequence[StoreRow], device: torch.device) -> list[Logps]:
        width = self._width(rows[0])
        repeated = [*rows, *[rows[0]] * (self._height(width, device) - len(rows))]
        logps = self._ask(part_of(repeated, width, device)).cpu().numpy()
        return [out[row.prompt : len(row.ids)] for row, out in zip(rows, logps, strict=False)]

    @torch.no_grad()
    def _ask(self, part: Batch) -> Tensor:
        if not self.from_policy:
            return self.source.logps(part)
        if self._policy is None:
            raise ValueError(
                f"{self.store.path} lacks log-probs of responses, and model.reference has from_policy: only a run that "
                "starts from its base model can compute them, before its first update; set from_policy to false"
            )
        return token_logps(self._policy, part)

    def _in_step(self, items: Iterable[Item]) -> Iterator[Item | None]:
        """The items, and None while the policy must be called because other ranks have more of them."""
        return iter(items) if self._policy is None else in_step(items, self._policy)

    def _addresses(self, batch: Batch, device: torch.device | None = None) -> list[bytes]:
        self._salt = self._salt or weights_id(self.source.name, self.source.dtype).encode()
        salt = self._salt + _autocast(device or batch.ids.device).encode()
        keys = batch.keys()
        return [hashlib.sha256(salt + key).digest() for key in keys]


class _Looked(Reference):
    """A store's entries where it has them, its model's log-probs elsewhere; nothing is written."""

    def __init__(self, store: Stored) -> None:
        self.store = store

    def logps(self, batch: Batch) -> Tensor:
        rows = self.store.known(batch)
        missing = [i for i, row in enumerate(rows) if row is None]
        if not missing:
            return placed(batch, rows, self.store.store.path)
        if len(missing) == len(rows):
            return self.store.source.logps(batch)
        computed = self.store.source.logps(batch.keep(missing))
        out = placed(batch, rows, self.store.store.path, some=True)
        out[torch.tensor(missing, device=out.device)] = computed
        return out

    def identity(self) -> dict[str, Any]:
        return self.store.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self.store.compute_in(dtype)

    def network(self, device: torch.device) -> PreTrainedModel:
        return self.store.source.network(device)


def weights_id(name: str, dtype: Dtype) -> str:
    """Identity of a model's weights: size and time of its files for a folder, name and commit for the hub.

    A folder's weights are not hashed at every start; config and weight files that change in place change
    their modification time.
    """
    folder = Path(name)
    files = (
        sorted(p for p in folder.glob("*") if p.suffix in {".safetensors", ".json", ".bin"}) if folder.is_dir() else []
    )
    parts = [f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files] or [commit_of(name)]
    return hashlib.sha256("|".join([str(folder.resolve()) if files else name, dtype, *parts]).encode()).hexdigest()


def _autocast(device: torch.device) -> str:
    """The precision a model would compute in here, where it is not that of its weights."""
    return str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else ""


def _circumstances(device: torch.device) -> tuple[str, ...]:
    """What may change a model's log-probs beside its weights."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return (torch.__version__, transformers.__version__, device.type, name, _autocast(device))
