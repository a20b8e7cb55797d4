"""Counts how many completions of a response prefix are right; each count is sampled once and stored in a file."""

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
from lit_prm.models.reference import weights_id


class Part(NamedTuple):
    """Prefixes of responses to one problem that are completed in one batch."""

    prompt: str
    answer: str
    prefixes: tuple[str, ...]


class Counts(NamedTuple):
    """Right completions of one prefix, and the tokens that all its completions cost."""

    right: int
    generated: int  # tokens of all completions
    prompt: int  # tokens of problem and prefix, read once


class Completions:
    """SQLite file of counts of right completions by prefix; each part is committed when it is complete.

    The address of an entry is a hash of the completer's weights, the sampling settings and the whole part. The address
    is also the seed of the part's sampling. Law: the counts of a part do not depend on other parts, on the contents of
    the file, or on kills.
    """

    def __init__(self, sampler: LocalSampler, path: str, completions: int) -> None:
        self.sampler = sampler
        self.path = Path(path)
        self.completions = completions
        model, dtype, temperature, max_new_tokens = sampler.settings
        self.salt = [weights_id(model, dtype), completions, temperature, max_new_tokens, sampler.seed]

    def of(self, parts: Sequence[Part]) -> Generator[dict[str, Counts], None, None]:
        """Yield the counts of every prefix, part by part; closing the generator cancels the parts that are left."""
        addresses = [self._address(part) for part in parts]
        with closing(self._open()) as database:
            stored = {address for address in addresses if _read(database, address)}
            jobs = [
                DecodingJob(tuple(part.prompt + prefix for prefix in part.prefixes), self.completions, address.hex())
                for part, address in zip(parts, addresses, strict=True)
                if address not in stored
            ]
            with closing(self.sampler.draw(jobs)) as drawn:
                progress = track(addresses, "completions", transient=True, disable=not jobs)
                for part, address in zip(parts, progress, strict=True):
                    if address not in stored:
                        _write(database, address, _graded(part, next(drawn)))
                    yield dict(zip(part.prefixes, _read(database, address), strict=True))

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
    """Counts by prefix: the final answers of the completed responses are compared with the problem's answer."""
    return [
        Counts(sum(is_correct(prefix + text, part.answer) for text in of.texts), sum(of.generated), of.prompt)
        for prefix, of in zip(part.prefixes, drawn, strict=True)
    ]


def _write(database: sqlite3.Connection, address: bytes, counts: Sequence[Counts]) -> None:
    with database:  # commits
        database.execute(
            "INSERT OR IGNORE INTO counts VALUES (?, ?)", (address, np.array(counts, dtype=np.int32).tobytes())
        )


def _read(database: sqlite3.Connection, address: bytes) -> list[Counts]:
    """Counts of a part by prefix; empty if it is not stored."""
    row = database.execute("SELECT counts FROM counts WHERE address = ?", (address,)).fetchone()
    return [Counts(*counts) for counts in np.frombuffer(row[0], dtype=np.int32).reshape(-1, 3).tolist()] if row else []
