"""Where reference log-probs come from: a frozen model, a store filled once, or nothing."""

from __future__ import annotations

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.encoding import Batch
from lit_prm.models import Dtype, load_model, token_logps


class Reference(ABC):
    """A source of per-token reference log-probs. Never trained, never part of the training engine."""

    def prepare(self, batches: Iterable[Batch], device: torch.device) -> None:  # noqa: B027  optional
        """See every batch once before training starts; sources that keep nothing ignore it."""

    @abstractmethod
    def logps(self, batch: Batch) -> Tensor:
        """Log pi_ref(y_t | x, y_<t); [B, T] float32, 0 outside responses, on the batch's device."""


class Uniform(Reference):
    """No reference: log pi_ref is constant, so the reward is the policy's own log-prob (section 5.5.2)."""

    def logps(self, batch: Batch) -> Tensor:
        return torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)


class Frozen(Reference):
    """A frozen causal language model, loaded at first use and run without gradients at every call."""

    def __init__(self, model: str, dtype: Dtype = "float32") -> None:
        self.name = model
        self.dtype = dtype
        self._model: PreTrainedModel | None = None

    @torch.no_grad()
    def logps(self, batch: Batch) -> Tensor:
        return token_logps(self._on(batch.ids.device), batch)

    def release(self) -> None:
        """Give the weights' memory back; the next call loads them again."""
        self._model = None

    def _on(self, device: torch.device) -> PreTrainedModel:
        if self._model is None:
            self._model = load_model(self.name, self.dtype)
            self._model.requires_grad_(False)
        if self._model.device != device:
            self._model = self._model.to(device)  # type: ignore[arg-type]
        return self._model


class Stored(Reference):
    """Log-probs of a frozen model, computed once per response and kept in a file.

    The address of an entry is its content: the reference's weights, the precision they compute in and the
    token ids. So losses, epochs, seeds and validation share entries, a killed pass goes on where it was, and
    a store can hold several references. The model is loaded only while something is missing.
    """

    def __init__(self, model: str, path: str, dtype: Dtype = "float32") -> None:
        self.source = Frozen(model, dtype)
        self.path = path
        self.hits = 0
        self.misses = 0
        self._database: sqlite3.Connection | None = None
        self._salt = b""

    def prepare(self, batches: Iterable[Batch], device: torch.device) -> None:
        for batch in batches:
            there = batch._replace(ids=batch.ids.to(device))
            self._fill(self._addresses(there), there)
        self.source.release()

    def logps(self, batch: Batch) -> Tensor:
        addresses = self._addresses(batch)
        rows = self._read(addresses)
        if any(row is None for row in rows):
            self._fill(addresses, batch)
            rows = self._read(addresses)
        out = torch.zeros(batch.ids.shape, dtype=torch.float32)
        for i, row in enumerate(rows):
            if row is None:
                raise AssertionError("an entry just written cannot be read back")
            start = int(batch.prompt_length[i])
            out[i, start : start + len(row)] = torch.from_numpy(row.copy())
        return out.to(batch.ids.device)

    def _fill(self, addresses: Sequence[bytes], batch: Batch) -> None:
        """Compute and commit what is missing of a batch, in one transaction."""
        missing = [i for i, row in enumerate(self._read(addresses)) if row is None]
        self.hits += len(addresses) - len(missing)
        self.misses += len(missing)
        if not missing:
            return
        part = _rows(batch, missing)
        logps = self.source.logps(part).cpu().numpy()
        spans = zip(missing, logps, part.prompt_length.tolist(), part.length.tolist(), strict=True)
        entries = [(addresses[i], row[start:end].tobytes()) for i, row, start, end in spans]
        with self._open() as database:  # commits, or rolls back when killed half-way
            database.executemany("INSERT OR IGNORE INTO logps VALUES (?, ?)", entries)

    def _read(self, addresses: Sequence[bytes]) -> list[np.ndarray[tuple[int], np.dtype[np.float32]] | None]:
        query = f"SELECT address, logps FROM logps WHERE address IN ({','.join('?' * len(addresses))})"
        found = dict(self._open().execute(query, addresses))
        return [np.frombuffer(found[a], dtype=np.float32) if a in found else None for a in addresses]

    def _addresses(self, batch: Batch) -> list[bytes]:
        self._salt = self._salt or weights_id(self.source.name, self.source.dtype).encode()
        salt = self._salt + _autocast(batch.ids.device).encode()
        keys = batch.keys()
        return [hashlib.sha256(salt + key).digest() for key in keys]

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=60)  # another run may be writing
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS logps (address BLOB PRIMARY KEY, logps BLOB) WITHOUT ROWID"
            )
        return self._database


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


def _rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """The batch with some of its rows, cut to their longest."""
    index = torch.tensor(rows)
    width = int(batch.length[index.to(batch.length.device)].max())
    ids, length, prompt_length, step, labels, group, rows_of = (f[index.to(f.device)] for f in batch[:7])
    picked = (ids[:, :width], length, prompt_length, step[:, :width], labels, group, rows_of)
    return Batch(*picked, global_labels=batch.global_labels, global_group=batch.global_group)
