"""Where reference log-probs come from: a frozen model, a store filled once, or nothing."""

from __future__ import annotations

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.batch import Batch
from lit_prm.models import Dtype, load_model, token_logps, weights_hash


class Reference(ABC):
    """A source of per-token reference log-probs. Never trained, never part of the training engine."""

    def prepare(self, batches: Iterable[Batch], device: torch.device) -> None:  # noqa: B027  optional
        """See every batch once before training starts; sources that keep nothing ignore it."""

    @abstractmethod
    def logps(self, batch: Batch) -> Tensor:
        """Log pi_ref(y_t | x, y_<t); [B, T] float32, 0 outside responses, on the batch's device."""

    def identity(self) -> dict[str, Any]:
        """What its log-probs hang on, as JSON."""
        return {"reference": type(self).__name__}

    def compute_in(self, dtype: Dtype) -> None:  # noqa: B027  not all compute
        """Use weights of this type, if there are any; before they are loaded."""

    def network(self, device: torch.device) -> PreTrainedModel | None:
        """The language model it asks, on ``device``; None where it has none of its own."""
        return None

    def read_only(self) -> Reference:
        """A source of the same log-probs that writes nothing."""
        return self


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
        return token_logps(self.network(batch.ids.device), batch)

    def identity(self) -> dict[str, Any]:
        return {"reference": self.name, "reference_weights": weights_hash(self.name)}

    def compute_in(self, dtype: Dtype) -> None:
        self.dtype = dtype

    def release(self) -> None:
        """Give the weights' memory back; the next call loads them again."""
        self._model = None

    def network(self, device: torch.device) -> PreTrainedModel:
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

    Entries are computed in parts whose shape depends on the response's own length alone, never on the batch
    that asked: a matrix product of another shape rounds differently, and a run's numbers would depend on
    which run came before it.
    """

    PART = 1024  # tokens of one part
    WIDTHS = 16  # a part is a multiple of this wide

    def __init__(self, model: str, path: str, dtype: Dtype = "float32") -> None:
        self.source = Frozen(model, dtype)
        self.path = path
        self.misses = 0
        self._database: sqlite3.Connection | None = None
        self._salt = b""

    def prepare(self, batches: Iterable[Batch], device: torch.device) -> None:
        self._fill(batches, device)
        self.source.release()

    def logps(self, batch: Batch) -> Tensor:
        addresses = self._addresses(batch)
        rows = self._read(addresses)
        if any(row is None for row in rows):
            self._fill([batch], batch.ids.device)
            rows = self._read(addresses)
        return _placed(batch, rows)

    def identity(self) -> dict[str, Any]:
        return self.source.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self.source.compute_in(dtype)

    def read_only(self) -> Reference:
        return _Looked(self)

    def known(self, batch: Batch) -> list[NDArray[np.float32] | None]:
        """The entry of every response, None where there is none; a store that is no file yet has none."""
        return self._read(self._addresses(batch)) if Path(self.path).exists() else [None] * len(batch.ids)

    def _fill(self, batches: Iterable[Batch], device: torch.device) -> None:
        """Compute what is missing; parts are full but for the last of each width."""
        waiting: dict[int, dict[bytes, _Row]] = {}
        for batch in batches:
            for row in self._missing(batch, device):
                width = -(-len(row.ids) // self.WIDTHS) * self.WIDTHS
                part = waiting.setdefault(width, {})
                part[row.address] = row
                if len(part) == self._height(width):
                    self._compute(list(waiting.pop(width).values()), width, device)
        for width, part in waiting.items():
            self._compute(list(part.values()), width, device)

    def _missing(self, batch: Batch, device: torch.device) -> Iterator[_Row]:
        addresses = self._addresses(batch, device)
        spans = zip(addresses, self._read(addresses), batch.ids, batch.prompt_length, batch.length, strict=True)
        return (_Row(address, ids[: int(n)].cpu(), int(p)) for address, known, ids, p, n in spans if known is None)

    def _height(self, width: int) -> int:
        return max(self.PART // width, 1)

    def _compute(self, rows: Sequence[_Row], width: int, device: torch.device) -> None:
        """Log-probs of rows of one width, committed in one transaction."""
        self.misses += len(rows)
        repeated = [*rows, *[rows[0]] * (self._height(width) - len(rows))]
        logps = self.source.logps(_part(repeated, width, device)).cpu().numpy()
        entries = [(r.address, out[r.prompt : len(r.ids)].tobytes()) for r, out in zip(rows, logps, strict=False)]
        with self._open() as database:  # commits, or rolls back when killed half-way
            database.executemany("INSERT OR IGNORE INTO logps VALUES (?, ?)", entries)

    def _read(self, addresses: Sequence[bytes]) -> list[NDArray[np.float32] | None]:
        query = f"SELECT address, logps FROM logps WHERE address IN ({','.join('?' * len(addresses))})"
        found = dict(self._open().execute(query, addresses))
        return [np.frombuffer(found[a], dtype=np.float32) if a in found else None for a in addresses]

    def _addresses(self, batch: Batch, device: torch.device | None = None) -> list[bytes]:
        self._salt = self._salt or weights_id(self.source.name, self.source.dtype).encode()
        salt = self._salt + _autocast(device or batch.ids.device).encode()
        keys = batch.keys()
        return [hashlib.sha256(salt + key).digest() for key in keys]

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):  # two ranks that make the file at once: sqlite waits for all but this
                self._database = sqlite3.connect(self.path, timeout=60)  # another run may be writing
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost entries, never the file
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS logps (address BLOB PRIMARY KEY, logps BLOB) WITHOUT ROWID"
                )
        return self._database


class _Looked(Reference):
    """A store's entries where it has them, its model's log-probs elsewhere; nothing is written."""

    def __init__(self, store: Stored) -> None:
        self.store = store

    def logps(self, batch: Batch) -> Tensor:
        rows = self.store.known(batch)
        missing = [i for i, row in enumerate(rows) if row is None]
        if not missing:
            return _placed(batch, rows)
        if len(missing) == len(rows):
            return self.store.source.logps(batch)
        computed = self.store.source.logps(batch.keep(missing))
        out = _placed(batch, [np.zeros(0, np.float32) if row is None else row for row in rows])
        out[torch.tensor(missing, device=out.device)] = computed
        return out

    def identity(self) -> dict[str, Any]:
        return self.store.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self.store.compute_in(dtype)

    def network(self, device: torch.device) -> PreTrainedModel:
        return self.store.source.network(device)


def _placed(batch: Batch, rows: Sequence[NDArray[np.float32] | None]) -> Tensor:
    """Log-probs of responses at their tokens' places; [B, T]."""
    out = torch.zeros(batch.ids.shape, dtype=torch.float32)
    for i, row in enumerate(rows):
        if row is None:
            raise AssertionError("an entry just written cannot be read back")
        start = int(batch.prompt_length[i])
        out[i, start : start + len(row)] = torch.from_numpy(row.copy())
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


class _Row(NamedTuple):
    """A response to compute."""

    address: bytes
    ids: Tensor  # [n] prompt and response
    prompt: int  # tokens of the prompt


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
