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

from lit_prm.answers import undecided
from lit_prm.answers import workers as equivalence
from lit_prm.answers.workers import PATIENCE, Pair, Verdict

BUSY_PATIENCE = 30.0  # wall-clock seconds beyond the limit, once a busy machine has interrupted a comparison


def symbolically_equal(pairs: Sequence[Pair], timeout: float) -> list[bool]:
    """Whether math-verify calls the candidate of each pair (gold, candidate) right; False without a verdict in time."""
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
    A comparison that a busy machine interrupted is asked again at once, with ``BUSY_PATIENCE``, and by every later
    call. ``counted()`` counts each use of a pair without a verdict. A file that cannot be used causes a warning and no
    error.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._path = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened(str(file))
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def equal(self, pairs: Sequence[Pair], timeout: float) -> list[bool]:
        keys = [_key(pair) for pair in pairs]
        found = self._stored(keys, timeout)
        unknown = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in found}
        for patience in (PATIENCE, BUSY_PATIENCE):
            outcomes = equivalence.verdicts(list(unknown.values()), timeout, patience)
            found |= dict(zip(unknown, outcomes, strict=True))
            unknown = {key: pair for key, pair in unknown.items() if self._keep(key, found[key], timeout)}
        verdicts = [found[key] for key in keys]
        undecided.add(sum(verdict in (Verdict.UNDECIDED, Verdict.INTERRUPTED) for verdict in verdicts))
        return [verdict is Verdict.EQUAL for verdict in verdicts]

    def _stored(self, keys: Sequence[bytes], timeout: float) -> dict[bytes, Verdict]:
        found: dict[bytes, Verdict] = {}
        with self._trying():
            for key in keys:
                row = self._file.execute("SELECT equal, seconds FROM verdicts WHERE key = ?", (key,)).fetchone()
                if row and (row[0] is not None or timeout <= row[1]):
                    found[key] = _VERDICTS[row[0]]
        return found

    def _keep(self, key: bytes, verdict: Verdict, timeout: float) -> bool:
        """Store a verdict; True if there is none because a busy machine interrupted the judge."""
        if verdict is Verdict.INTERRUPTED:
            return True
        equal = None if verdict is Verdict.UNDECIDED else verdict is Verdict.EQUAL
        with self._trying():
            self._file.execute(_INSERT, (key, equal, timeout))
        return False

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


_VERDICTS = {None: Verdict.UNDECIDED, 0: Verdict.UNEQUAL, 1: Verdict.EQUAL}
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
    """[32 bytes] hash of the pair (gold, candidate) and of the rules."""
    return hashlib.sha256(json.dumps([*pair, _rules()]).encode()).digest()


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
