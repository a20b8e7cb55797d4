"""The file of stored log-probs: a SQLite table from content addresses to arrays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

Logps = NDArray[np.float32]  # one for each response token

# Entries of some 2 KB fill pages of 16 KB in a table with rowids: 4.5 bytes a token, 4 of them the number itself, where
# small pages and tables without rowids take up to 11 and twice the time (benchmarks/scaling.py --rows layouts).
PAGE = 16384


class LogpStore:
    """Entries of many references in one file, which any number of processes may read and write.

    A killed writer leaves complete transactions or nothing. The table ``checked`` records on which releases and devices
    entries were compared with their model. Processes of several hosts may share the file if its file system has
    reliable locks: each sets ``over_hosts`` before first use. The store then keeps a rollback journal, because the
    memory of a write-ahead log belongs to one host.
    """

    WAITS = 60  # seconds to wait for another process that creates the file

    def __init__(self, path: str) -> None:
        self.path = path
        self.over_hosts = False
        self._connection: sqlite3.Connection | None = None

    def read(self, addresses: Sequence[bytes]) -> list[Logps | None]:
        """The entry of every address, None if there is none. A store whose file does not exist yet is empty."""
        if self._connection is None and not Path(self.path).exists():
            return [None] * len(addresses)
        query = f"SELECT address, logps FROM logps WHERE address IN ({','.join('?' * len(addresses))})"
        with self._whole() as database:
            entries = dict(database.execute(query, addresses))
        return [np.frombuffer(entries[a], dtype=np.float32) if a in entries else None for a in addresses]

    def write(self, entries: Iterable[tuple[bytes, Logps]]) -> None:
        """Add entries in one transaction; existing entries are kept."""
        with self._whole() as database, database:  # commits, or rolls back when killed half-way
            rows = ((address, logps.tobytes()) for address, logps in entries)
            database.executemany("INSERT OR IGNORE INTO logps VALUES (?, ?)", rows)

    def was_checked(self, circumstances: bytes) -> bool:
        with self._whole() as database:
            row = database.execute("SELECT 1 FROM checked WHERE circumstances = ?", (circumstances,)).fetchone()
        return row is not None

    def note_checked(self, circumstances: bytes) -> None:
        with self._whole() as database, database:
            database.execute("INSERT OR IGNORE INTO checked VALUES (?)", (circumstances,))

    def size(self) -> tuple[int, int]:
        """Numbers of entries and of bytes in the file, including what the write-ahead log still holds."""
        with self._whole() as database:
            (entries,) = database.execute("SELECT COUNT(*) FROM logps").fetchone()
            pages, each = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(entries), int(pages) * int(each)

    @contextmanager
    def _whole(self) -> Iterator[sqlite3.Connection]:
        """The connection, opened at first use. Raises ValueError for a file that SQLite cannot read or write."""
        try:
            if self._connection is None:
                self._connection = self._connected()
            yield self._connection
        except (sqlite3.OperationalError, OSError) as error:  # a folder without rights, or a file
            raise ValueError(
                f"{self.path}: {error}. Set model.reference's path to a file that can be written, in a folder with "
                "space, which no other program and no run of another host has open."
            ) from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self.path} is not an intact store of log-probs ({error}). Remove it; the next run fills it again. "
                "Or name another file."
            ) from error

    def _connected(self) -> sqlite3.Connection:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        lock = f"{self.path}.lock"
        try:
            # SQLite waits for everything except several ranks that create the file at once
            with FileLock(lock, timeout=self.WAITS):
                return _opened(self.path, self.over_hosts)
        except Timeout as error:
            raise ValueError(
                f"{lock} could not be taken for {self.WAITS} seconds: another process holds it, or the file system has "
                "no locks. Set model.reference's path to a file on another file system."
            ) from error


def _opened(path: str, over_hosts: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60)  # another run may be writing
    new = not connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.execute(f"PRAGMA page_size={PAGE}")  # of a new file
    if over_hosts or new:  # a store that hosts have shared keeps its journal: they may be using it
        connection.execute(f"PRAGMA journal_mode={'DELETE' if over_hosts else 'WAL'}")
    connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost entries, never the file
    connection.execute("CREATE TABLE IF NOT EXISTS logps (address BLOB PRIMARY KEY, logps BLOB)")
    connection.execute("CREATE TABLE IF NOT EXISTS checked (circumstances BLOB PRIMARY KEY) WITHOUT ROWID")
    return connection
