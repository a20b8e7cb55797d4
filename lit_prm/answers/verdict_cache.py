"""Cache of verdicts on pairs of answers: stored on disk by content; workers decide the pairs that it lacks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

from lit_prm.answers import workers as equivalence
from lit_prm.answers.workers import Pair, Verdict


def symbolically_equal(pairs: Sequence[Pair], timeout: float) -> list[bool]:
    """Whether math-verify calls the answers of each pair equal; False if it does not decide in time."""
    return _memory(os.getpid(), _file()).equal(pairs, timeout)


def _file() -> Path:
    return Path(os.environ.get("LIT_PRM_CACHE", ".cache")) / "verdicts.sqlite"


@cache  # never dropped: a forked process must not close the connection of its parent
def _memory(pid: int, file: Path) -> Verdicts:
    return Verdicts(file)


class Verdicts:
    """SQLite file of verdicts that processes and threads share; a kill does not damage it.

    The key of a verdict is a hash of the pair, the versions of math-verify and its dependencies, and the source of
    ``workers/judge.py``. "Undecided" holds for time limits up to the one that was used; a longer limit compares again.
    A comparison that a busy machine interrupted is remembered by this process only. A file that cannot be used causes
    a warning and no error.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._interrupted: set[tuple[bytes, float]] = set()
        self._path = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened(str(file))
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def equal(self, pairs: Sequence[Pair], timeout: float) -> list[bool]:
        keys = [_key(pair) for pair in pairs]
        equal = self._stored(keys, timeout)
        unknown = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in equal}
        outcomes = equivalence.verdicts(list(unknown.values()), timeout)
        for key, verdict in zip(unknown, outcomes, strict=True):
            equal[key] = verdict is Verdict.EQUAL
            self._keep(key, verdict, timeout)
        return [equal[key] for key in keys]

    def _stored(self, keys: Sequence[bytes], timeout: float) -> dict[bytes, bool]:
        equal = {key: False for key in keys if (key, timeout) in self._interrupted}
        with self._trying():
            for key in keys:
                row = self._file.execute("SELECT equal, seconds FROM verdicts WHERE key = ?", (key,)).fetchone()
                if row and (row[0] is not None or timeout <= row[1]):
                    equal[key] = bool(row[0])
        return equal

    def _keep(self, key: bytes, verdict: Verdict, timeout: float) -> None:
        if verdict is Verdict.INTERRUPTED:
            self._interrupted.add((key, timeout))
            return
        equal = None if verdict is Verdict.UNDECIDED else verdict is Verdict.EQUAL
        with self._trying():
            self._file.execute(_INSERT, (key, equal, timeout))

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        warnings.warn(
            f"Verdicts on answers are not kept in {self._path} ({error}). Delete that file, or set LIT_PRM_CACHE to "
            "a folder that can be written.",
            stacklevel=2,
        )
        self._file = _opened(":memory:")


_INSERT = (
    "INSERT INTO verdicts VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET equal = excluded.equal, "
    "seconds = excluded.seconds WHERE equal IS NULL AND (excluded.equal IS NOT NULL OR excluded.seconds > seconds)"
)  # "undecided" replaces no verdict


def _opened(name: str) -> sqlite3.Connection:
    """A connection that commits each statement, so that a kill does not damage the file. It does not wait for the disk.

    So a power cut may damage the file; then a warning follows, and the pairs are compared again.
    """
    file = sqlite3.connect(name, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = OFF")
        columns = "key BLOB PRIMARY KEY, equal INTEGER, seconds REAL NOT NULL"
        file.execute(f"CREATE TABLE IF NOT EXISTS verdicts ({columns}) WITHOUT ROWID")
    except sqlite3.Error:
        file.close()
        raise
    return file


def _key(pair: Pair) -> bytes:
    """[32 bytes] hash of the pair, in either order, and of the rules."""
    return hashlib.sha256(json.dumps([*sorted(pair), _rules()]).encode()).digest()


@lru_cache(maxsize=1)
def _rules() -> str:
    """Hash of the source of the judge, and the versions of the packages on which a verdict depends."""
    import inspect
    from importlib.metadata import version

    from lit_prm.answers.workers import judge

    ours = inspect.getsource(judge)
    theirs = ("math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime", "mpmath")
    versions = " ".join(f"{name} {version(name)}" for name in theirs)
    return f"{versions} {hashlib.sha256(ours.encode()).hexdigest()}"
