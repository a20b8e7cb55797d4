"""Queue of entries for a store that may be unreachable: entries are sent in order, or kept in a file meanwhile."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from lit_prm.storage.atomic import written_whole

Entry = Mapping[str, Any]  # JSON


class EntryRefused(Exception):
    """The store or the disk refuses this entry for good, but may accept others."""


class Outbox:
    """Sends every entry at least once, in order, and does not block the caller for long.

    During an outage entries go to ``file``, one JSON line each. The next try comes after 30 times the duration of the
    failed try, and after ``SHORTEST`` seconds at least, so an outage costs 3 % of the caller's time. When the store is
    back, each new entry also sends kept entries for up to ``LONGEST`` seconds. The file is removed when all entries are
    sent; a file of a killed process is sent first. Sending an entry twice must be harmless. Exceptions of ``send``
    that are neither an outage nor ``EntryRefused`` are raised.

    A refused entry goes to ``<file>.damaged`` and does not block others. So does a kept line that is not an entry (half
    a line after a power cut or on a full disk) or that the store refuses. Processes that share a file take turns.
    """

    SHORTEST, LONGEST = 20.0, 10.0

    def __init__(self, file: Path, send: Callable[[Entry], None], is_outage: Callable[[Exception], bool]) -> None:
        self.file, self._send, self._is_outage = file, send, is_outage
        self.damaged = file.with_name(f"{file.name}.damaged")
        self.sent, self.refused = 0, 0  # counts of kept lines
        self._lock = FileLock(file.with_name(f".{file.name}.lock"))
        self._next_try = 0.0
        self._lost = False

    def put(self, entry: Entry, *, now: bool = False) -> None:
        """Send or keep an entry; ``now`` tries to send even shortly after a failed try."""
        away = not now and time.monotonic() < self._next_try
        if self.waits and not away:
            self._attempt(lambda: self._send_kept(self.LONGEST))
        if away or self.waits or not self._attempt(lambda: self._send_new(entry)):
            self._append(self.file, json.dumps(entry).encode())

    @property
    def waits(self) -> bool:
        """Whether entries are kept in the file."""
        return self.file.exists()

    def flush(self) -> bool:
        """Try to send all kept entries, however long this takes. Returns whether none is left."""
        return not self.waits or self._attempt(lambda: self._send_kept(math.inf))

    def _send_new(self, entry: Entry) -> None:
        try:
            self._send(entry)
        except EntryRefused as error:
            self._set_aside(json.dumps(entry).encode(), error)

    def _attempt(self, action: Callable[[], None]) -> bool:
        began = time.monotonic()
        try:
            action()
        except Exception as error:
            if not self._is_outage(error):
                raise
            ended = time.monotonic()
            self._next_try = ended + max(self.SHORTEST, 30 * (ended - began))
            if not self.waits:  # once per outage
                _say(f"Training continues without the MLflow store. Entries are kept in {self.file}", error)
            return False
        return True

    def _append(self, file: Path, line: bytes) -> None:
        """Append a line, also after half a line. A full disk causes a warning, not an error."""
        try:
            with self._lock, file.open("a+b") as opened:
                opened.write(line + b"\n" if _ends_a_line(opened) else b"\n" + line + b"\n")
        except OSError as error:
            if not self._lost:  # once
                _say(f"Training continues, but entries of its MLflow record are lost: {file} cannot be written", error)
            self._lost = True

    def _send_kept(self, seconds: float) -> None:
        """Send kept entries for so many seconds, and remove the sent ones from the file, also after an outage."""
        until = time.monotonic() + seconds
        with self._lock:
            kept = self.file.read_bytes() if self.waits else b""  # another process may have sent it
            lines = deque(line for line in kept.split(b"\n") if line)
            before = len(lines)
            try:
                while lines and time.monotonic() < until:
                    self._send_line(lines[0])
                    lines.popleft()
            finally:
                if len(lines) < before or not lines:
                    self._leave(lines)

    def _send_line(self, line: bytes) -> None:
        try:
            self._send(json.loads(line))
        except Exception as error:
            if self._is_outage(error):
                raise
            self._set_aside(line, error)
        else:
            self.sent += 1

    def _set_aside(self, line: bytes, error: Exception) -> None:
        if not self.refused:  # once
            _say(f"Training continues. Entries that the MLflow store refuses are kept in {self.damaged}", error)
        self.refused += 1
        self._append(self.damaged, line)

    def _leave(self, lines: Collection[bytes]) -> None:
        if not lines:
            self.file.unlink(missing_ok=True)
            return
        with suppress(OSError), written_whole(self.file) as partial:  # on a full disk some entries are sent twice
            partial.write_bytes(b"".join(line + b"\n" for line in lines))


def _ends_a_line(opened: BinaryIO) -> bool:
    size = opened.seek(0, 2)
    opened.seek(max(size - 1, 0))
    return size == 0 or opened.read(1) == b"\n"


def _say(what: str, error: Exception) -> None:
    reason = (str(error) or type(error).__name__).split("\n", 1)[0][:200]
    print(f"{what} ({reason})", file=sys.stderr)
