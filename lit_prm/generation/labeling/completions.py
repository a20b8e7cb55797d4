"""How many of a response prefix's completions are right: sampled once, kept in a file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from lit_prm.answers import is_correct
from lit_prm.generation.local_sampler import DecodingJob, Drawn, LocalSampler
from lit_prm.models.language_model import Dtype
from lit_prm.models.reference import weights_id


class Part(NamedTuple):
    """Prefixes of one problem's responses that are completed together."""

    prompt: str
    answer: str
    prefixes: tuple[str, ...]


class Counts(NamedTuple):
    """What the completions of one prefix brought and cost."""

    right: int
    generated: int  # tokens of all completions
    prompt: int  # tokens of problem and prefix, read once


class Completions:
    """Counts of right completions by prefix, committed part by part.

    The address of an entry is its content: the completer's weights, how it is sampled, and the whole part. A
    part is drawn from its address as seed, alone: its counts are the same whatever else is asked for, whatever
    is in the file already and whoever was killed before.
    """

    def __init__(
        self,
        completer: str,
        path: str,
        *,
        completions: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        dtype: Dtype,
        workers: int,
        device: str,
    ) -> None:
        self.completions = completions
        self.path = Path(path)
        self.salt = [weights_id(completer, dtype), completions, temperature, max_new_tokens, seed]
        self.sampler = LocalSampler(
            completer,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            workers=workers,
            dtype=dtype,
            device=device,
        )

    def of(self, parts: Sequence[Part]) -> Generator[dict[str, Counts], None, None]:
        """Counts of every prefix, one part after the other and as they come; close it to leave parts undone."""
        addresses = [self._address(part) for part in parts]
        with closing(self._open()) as database:
            known = {address for address in addresses if _read(database, address) is not None}
            missing = [(part, address) for part, address in zip(parts, addresses, strict=True) if address not in known]
            jobs = [self._job(part, address) for part, address in missing]
            with closing(self.sampler.draw(jobs)) as drawn:
                shown = track(addresses, "completions", transient=True, disable=not jobs)
                for part, address in zip(parts, shown, strict=True):
                    if address not in known:
                        _write(database, address, _graded(part, next(drawn)))
                    yield dict(zip(part.prefixes, _entry(database, address), strict=True))

    def _job(self, part: Part, address: bytes) -> DecodingJob:
        return DecodingJob(tuple(part.prompt + prefix for prefix in part.prefixes), self.completions, address.hex())

    def _address(self, part: Part) -> bytes:
        return hashlib.sha256(json.dumps([self.salt, part]).encode()).digest()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=60)  # another run may be writing
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost entries, never the file
        database.execute("CREATE TABLE IF NOT EXISTS counts (address BLOB PRIMARY KEY, counts BLOB) WITHOUT ROWID")
        return database


def _graded(part: Part, drawn: Sequence[Drawn]) -> list[Counts]:
    """The completed responses' final answers compared with the problem's."""
    return [
        Counts(sum(is_correct(prefix + text, part.answer) for text in of.texts), sum(of.generated), of.prompt)
        for prefix, of in zip(part.prefixes, drawn, strict=True)
    ]


def _write(database: sqlite3.Connection, address: bytes, counts: Sequence[Counts]) -> None:
    with database:  # commits
        database.execute(
            "INSERT OR IGNORE INTO counts VALUES (?, ?)", (address, np.array(counts, dtype=np.int32).tobytes())
        )


def _read(database: sqlite3.Connection, address: bytes) -> list[Counts] | None:
    found = database.execute("SELECT counts FROM counts WHERE address = ?", (address,)).fetchone()
    return found and [Counts(*row) for row in np.frombuffer(found[0], dtype=np.int32).reshape(-1, 3).tolist()]


def _entry(database: sqlite3.Connection, address: bytes) -> list[Counts]:
    counts = _read(database, address)
    if counts is None:
        raise AssertionError("an entry just written cannot be read back")
    return counts
