"""One row of `benchmarks.scaling` about the reference store: random entries, no model."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import peak_bytes
from lit_prm.models.reference.store import Logps, LogpStore

TOKENS = (150, 750)  # of an entry, so 1.8 KB on average
TOGETHER = 2  # entries of a transaction, about what a part of 1,024 tokens holds
BATCH, READS = 64, 100

Entry = tuple[bytes, Logps]


class Layout(NamedTuple):
    """Another layout of the table of log-probs than the store's own."""

    rowid: bool
    page: int  # bytes

    def make(self, path: str) -> None:
        """Make the table before the store opens the file; the store keeps it."""
        database = sqlite3.connect(path)
        database.execute(f"PRAGMA page_size={self.page}")
        database.execute("PRAGMA journal_mode=WAL")  # as the store does with a new file
        kind = "" if self.rowid else " WITHOUT ROWID"
        database.execute(f"CREATE TABLE logps (address BLOB PRIMARY KEY, logps BLOB){kind}")
        database.close()

    def __str__(self) -> str:
        return f"{'rowid' if self.rowid else 'no rowid'}, {self.page // 1024} KB"


LAYOUTS = tuple(Layout(rowid, page) for rowid in (False, True) for page in (4096, 8192, 16384, 32768))


def measured(tokens: int, layout: Layout | None = None) -> dict[str, Any]:
    """Seconds to write, seconds to read a batch, bytes of the file; raises unless all entries are read back equal."""
    entries, before = list(drawn(tokens)), peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "store.sqlite")
        if layout:
            layout.make(path)
        wrote = seconds(lambda: write(LogpStore(path), entries))
        rng, reader = np.random.default_rng(1), LogpStore(path)
        batches = [[entries[i][0] for i in rng.integers(len(entries), size=BATCH)] for _ in range(READS)]
        read = seconds(lambda: [reader.read(batch) for batch in batches])
        refuse_other_entries(reader, entries)
        held, size = reader.size()
    written = sum(len(logps) for _, logps in entries)
    return {
        "tokens": written, "entries": held, "layout": str(layout) if layout else "as it is",
        "write_wall": wrote[0], "write_cpu": wrote[1], "read_wall": read[0] / READS, "read_cpu": read[1] / READS,
        "bytes_per_token": size / written, "bytes": peak_bytes() - before,
    }  # fmt: skip


def drawn(tokens: int) -> Iterator[Entry]:
    """Random entries of at least ``tokens`` tokens in all; their addresses are hashes, so they have no order."""
    rng, left = np.random.default_rng(0), tokens
    while left > 0:
        logps = -rng.exponential(size=rng.integers(*TOKENS)).astype(np.float32)
        yield rng.bytes(32), logps
        left -= len(logps)


def write(store: LogpStore, entries: Sequence[Entry]) -> None:
    for start in range(0, len(entries), TOGETHER):
        store.write(entries[start : start + TOGETHER])


def refuse_other_entries(store: LogpStore, entries: Sequence[Entry]) -> None:
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        *found, none = store.read([*(address for address, _ in part), b"unknown"])
        same = (a is not None and np.array_equal(a, b) for a, (_, b) in itertools.zip_longest(found, part))
        if none is not None or not all(same):
            raise SystemExit("the store does not give back what was written: no times")


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu
