"""Entries for a store that may be away: sent in order, or kept in a file until it is back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]  # JSON


class Outbox:
    """Sends every entry once at least, in the order given; the sender is never kept waiting for long.

    An entry that meets an outage goes to ``file``, a JSON line each, and so do those after it. Another try is made
    when 30 times as long as the failed one took has passed, and ``SHORTEST`` seconds: an outage costs 3 % of the
    sender's time. The file is gone when all is sent; one left by a killed process is sent first. Sending an
    entry twice must be harmless, and what ``send`` raises for other reasons is not ours to catch.
    """

    SHORTEST = 20.0

    def __init__(self, file: Path, send: Callable[[Entry], None], is_outage: Callable[[Exception], bool]) -> None:
        self.file, self._send, self._is_outage = file, send, is_outage
        self._next_try = 0.0

    def put(self, entry: Entry, *, now: bool = False) -> None:
        """Send or keep; with ``now``, a try is made however lately the last one failed."""
        self._keep(entry) if self._away(now) else self._deliver(entry)

    @property
    def waits(self) -> bool:
        """Whether something is kept."""
        return self.file.exists()

    def flush(self) -> bool:
        """Whether nothing is kept after one more try."""
        return not self.waits or self._attempt(self._empty)

    def _away(self, now: bool) -> bool:
        return not now and time.monotonic() < self._next_try

    def _deliver(self, entry: Entry) -> None:
        if not (self.flush() and self._attempt(lambda: self._send(entry))):
            self._keep(entry)

    def _attempt(self, action: Callable[[], None]) -> bool:
        began = time.monotonic()
        try:
            action()
        except Exception as error:
            if not self._is_outage(error):
                raise
            ended = time.monotonic()
            self._next_try = ended + max(self.SHORTEST, 30 * (ended - began))
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        if not self.waits:  # once an outage
            reason = str(error).split("\n", 1)[0][:200]
            print(f"the work goes on; what its record misses is kept in {self.file} ({reason})", file=sys.stderr)

    def _keep(self, entry: Entry) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _empty(self) -> None:
        *lines, _torn = self.file.read_text(encoding="utf-8").split("\n")  # nothing, unless power went
        for line in lines:
            self._send(json.loads(line))
        self.file.unlink()
