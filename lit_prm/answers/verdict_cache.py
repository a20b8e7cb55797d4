"""Verdicts on pairs of answers: remembered on disk by content, asked of the judges when unknown."""

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
    """Whether math-verify calls the answers of each pair equal; what it cannot decide in time is a no."""
    return _memory(os.getpid(), _file()).equal(pairs, timeout)


def _file() -> Path:
    return Path(os.environ.get("LIT_PRM_CACHE", ".cache")) / "verdicts.sqlite"


@cache  # never dropped: a forked copy must not close the connection of its parent
def _memory(pid: int, file: Path) -> Verdicts:
    return Verdicts(file)


class Verdicts:
    """A file of verdicts that processes and threads may share and be killed over.

    A verdict is known by the pair, the versions that made it and our reading of them. "Undecided" is known for the
    limits it was given and below; a longer one asks again. What a busy machine interrupted is kept by this
    process only, so that one run answers a question once. A file that cannot be used costs a warning, not the run.
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
        found = self._known(keys, timeout)
        unknown = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in found}
        outcomes = equivalence.verdicts(list(unknown.values()), timeout)
        for key, verdict in zip(unknown, outcomes, strict=True):
            found[key] = verdict is Verdict.EQUAL
            self._keep(key, verdict, timeout)
        return [found[key] for key in keys]

    def _known(self, keys: Sequence[bytes], timeout: float) -> dict[bytes, bool]:
        found = {key: False for key in keys if (key, timeout) in self._interrupted}
        with self._trying():
            for key in keys:
                row = self._file.execute("SELECT equal, seconds FROM verdicts WHERE key = ?", (key,)).fetchone()
                if row and (row[0] is not None or timeout <= row[1]):
                    found[key] = bool(row[0])
        return found

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
            f"verdicts on answers are not kept in {self._path} ({error}); delete that file, or set LIT_PRM_CACHE to "
            "a folder that can be written",
            stacklevel=2,
        )
        self._file = _opened(":memory:")


_INSERT = (
    "INSERT INTO verdicts VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET equal = excluded.equal, "
    "seconds = excluded.seconds WHERE equal IS NULL AND (excluded.equal IS NOT NULL OR excluded.seconds > seconds)"
)  # nobody's "undecided" replaces a verdict


def _opened(name: str) -> sqlite3.Connection:
    """A connection whose statements are transactions: no kill spoils the file. It never waits for the disk.

    So a power cut may spoil it; what cannot be read then is asked again, after a warning.
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
    """[32 bytes] of the pair in either order and of what judges it."""
    return hashlib.sha256(json.dumps([*sorted(pair), _rules()]).encode()).digest()


@lru_cache(maxsize=1)
def _rules() -> str:
    """What a verdict depends on besides the answers: our use of math-verify, and what it runs on."""
    import inspect
    from importlib.metadata import version

    from lit_prm.answers.workers import judge

    ours = inspect.getsource(judge)
    theirs = ("math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime", "mpmath")
    versions = " ".join(f"{name} {version(name)}" for name in theirs)
    return f"{versions} {hashlib.sha256(ours.encode()).hexdigest()}"
