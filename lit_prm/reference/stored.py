"""Reference log-probs that are computed once per response and kept in a file."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.batch import Batch
from lit_prm.models import Dtype
from lit_prm.reference.base import Frozen, Reference
from lit_prm.reference.store import Logps, LogpStore


class Stored(Reference):
    """Log-probs of a frozen model, computed once per response and kept in a file.

    The address of an entry is its content: the reference's weights, the precision they compute in and the
    token ids. So losses, epochs, seeds and validation share entries, a killed pass goes on where it was, and
    a store can hold several references. The model is loaded only while something is missing.

    Entries are computed in parts whose shape depends on the response's own length alone, never on the batch
    that asked: a matrix product of another shape rounds differently, and a run's numbers would depend on
    which run came before it.
    """

    PART = 1024  # tokens of one part
    WIDTHS = 16  # a part is a multiple of this wide
    SAMPLE = 4  # entries that are computed again before a store is believed

    def __init__(self, model: str, path: str, dtype: Dtype = "float32") -> None:
        self.source = Frozen(model, dtype)
        self.store = LogpStore(path)
        self.asked = 0
        self.misses = 0
        self._salt = b""

    def prepare(self, batches: Iterable[Batch], device: torch.device) -> str:
        self._verify(self._fill(batches, device), device)
        self.source.release()
        return self.told()

    def told(self) -> str:
        """How much of what was asked for was there, and how large the store is."""
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
        return _placed(batch, rows, self.store.path)

    def identity(self) -> dict[str, Any]:
        return self.source.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self.source.compute_in(dtype)

    def read_only(self) -> Reference:
        return _Looked(self)

    def known(self, batch: Batch) -> list[Logps | None]:
        """The entry of every response, None where there is none."""
        return self.store.read(self._addresses(batch))

    def _fill(self, batches: Iterable[Batch], device: torch.device) -> list[tuple[_Row, Logps]]:
        """Compute what is missing, and return a few of the entries that were there.

        Parts are full but for the last of each width.
        """
        waiting: dict[int, dict[bytes, _Row]] = {}
        there: list[tuple[_Row, Logps]] = []
        for batch in batches:
            addresses = self._addresses(batch, device)
            for i, (address, entry) in enumerate(zip(addresses, self.store.read(addresses), strict=True)):
                self.asked += 1
                if entry is not None:
                    there += [(_row(batch, i, address), entry)] if len(there) < self.SAMPLE else []
                    continue
                row = _row(batch, i, address)
                width = self._width(row)
                part = waiting.setdefault(width, {})
                part[row.address] = row
                if len(part) == self._height(width):
                    self._compute(list(waiting.pop(width).values()), width, device)
        for width, part in waiting.items():
            self._compute(list(part.values()), width, device)
        return there

    def _verify(self, there: Sequence[tuple[_Row, Logps]], device: torch.device) -> None:
        """Compute a few entries again: whenever the model is in memory, else once for each release and device.

        Addresses name weights by file times, not by a hash of gigabytes at every start.
        """
        circumstances = hashlib.sha256(self._salt + repr(_circumstances(device)).encode()).digest()
        if self.store.was_checked(circumstances) and not self.source.loaded:
            return
        most = 1e-3 if self.source.dtype == "float32" and not _autocast(device) else 0.3
        for row, entry in there:
            (again,) = self._logps_of([row], self._width(row), device)
            far = float(np.abs(again - entry).max(initial=0)) if again.shape == entry.shape else math.inf
            if not far <= most:
                raise ValueError(
                    f"{self.store.path} holds log-probs that {self.source.name} does not give: {far:.3g} apart, more "
                    f"than {most:g}; weights changed behind their file's time, or the file is damaged: remove it, it "
                    "is filled again"
                )
        self.store.note_checked(circumstances)

    def _width(self, row: _Row) -> int:
        return -(-len(row.ids) // self.WIDTHS) * self.WIDTHS

    def _height(self, width: int) -> int:
        return max(self.PART // width, 1)

    def _compute(self, rows: Sequence[_Row], width: int, device: torch.device) -> None:
        """Log-probs of rows of one width, committed in one transaction."""
        self.misses += len(rows)
        self.store.write(zip((row.address for row in rows), self._logps_of(rows, width, device), strict=True))

    def _logps_of(self, rows: Sequence[_Row], width: int, device: torch.device) -> list[Logps]:
        repeated = [*rows, *[rows[0]] * (self._height(width) - len(rows))]
        logps = self.source.logps(_part(repeated, width, device)).cpu().numpy()
        return [out[row.prompt : len(row.ids)] for row, out in zip(rows, logps, strict=False)]

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
            return _placed(batch, rows, self.store.store.path)
        if len(missing) == len(rows):
            return self.store.source.logps(batch)
        computed = self.store.source.logps(batch.keep(missing))
        out = _placed(batch, rows, self.store.store.path, some=True)
        out[torch.tensor(missing, device=out.device)] = computed
        return out

    def identity(self) -> dict[str, Any]:
        return self.store.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self.store.compute_in(dtype)

    def network(self, device: torch.device) -> PreTrainedModel:
        return self.store.source.network(device)


def _placed(batch: Batch, rows: Sequence[Logps | None], path: str, *, some: bool = False) -> Tensor:
    """Log-probs of responses at their tokens' places, 0 for ``some`` that have none; [B, T]."""
    out = torch.zeros(batch.ids.shape, dtype=torch.float32)
    for i, row in enumerate(rows):
        start, end = int(batch.prompt_length[i]), int(batch.length[i])
        if row is None and some:
            continue
        if row is None or len(row) != end - start:
            raise ValueError(
                f"{path} holds {'no log-probs' if row is None else f'{len(row)} log-probs'} of a response of "
                f"{end - start} tokens that it has just been asked for; it is damaged: remove it, it is filled again"
            )
        out[i, start:end] = torch.from_numpy(row.copy())
    return out.to(batch.ids.device)


def weights_id(name: str, dtype: Dtype) -> str:
    """Identity of a model's weights: size and time of its files for a folder, the name itself for the hub.

    A folder's weights are not hashed at every start; config and weight files that change in place change
    their modification time.
    """
    folder = Path(name)
    files = (
        sorted(p for p in folder.glob("*") if p.suffix in {".safetensors", ".json", ".bin"}) if folder.is_dir() else []
    )
    parts = [f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files] or [name]
    return hashlib.sha256("|".join([str(folder.resolve()) if files else name, dtype, *parts]).encode()).hexdigest()


def _autocast(device: torch.device) -> str:
    """The precision a model would compute in here, where it is not that of its weights."""
    return str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else ""


def _circumstances(device: torch.device) -> tuple[str, ...]:
    """What may change a model's log-probs beside its weights."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return (torch.__version__, transformers.__version__, device.type, name, _autocast(device))


class _Row(NamedTuple):
    """A response to compute."""

    address: bytes
    ids: Tensor  # [n] prompt and response
    prompt: int  # tokens of the prompt


def _row(batch: Batch, i: int, address: bytes) -> _Row:
    return _Row(address, batch.ids[i, : int(batch.length[i])].cpu(), int(batch.prompt_length[i]))


def _part(rows: Sequence[_Row], width: int, device: torch.device) -> Batch:
    """The rows as a batch of exactly ``width`` columns; only ids and the place of the response are told."""
    ids, step = torch.zeros((len(rows), width), dtype=torch.long), torch.full((len(rows), width), -1)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        step[i, row.prompt : len(row.ids)] = 0
    length, prompt = (torch.tensor([n(row) for row in rows]) for n in (lambda r: len(r.ids), lambda r: r.prompt))
    none = torch.zeros(len(rows), dtype=torch.long)
    return Batch(
        ids=ids.to(device),
        length=length,
        prompt_length=prompt,
        step=step.to(device),
        labels=none.float(),
        step_labels=none.float().unsqueeze(1),
        group=none,
        row=none,
        global_labels=none.float(),
        global_group=none,
    )
