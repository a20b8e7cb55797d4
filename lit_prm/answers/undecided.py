"""Counts comparisons of answers that end without a verdict, so that no report passes them off as unequal."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_total = 0


class Undecided:
    """Number of comparisons without a verdict, set at the end of the block that counts them."""

    count = 0


@contextmanager
def counted() -> Iterator[Undecided]:
    """Counts what stays undecided in this process, in any thread, until the block ends."""
    before, undecided = _total, Undecided()
    try:
        yield undecided
    finally:
        undecided.count = _total - before


@contextmanager
def told(what: str) -> Iterator[None]:
    """Warn at the end of the block if comparisons stayed undecided; ``what`` names what they would have decided."""
    with counted() as undecided:
        yield
    if undecided.count:
        warnings.warn(
            f"{what}: {undecided.count} comparisons of answers ended without a verdict and count as unequal (time "
            "limit, or a busy machine). The same command asks again what the machine interrupted.",
            stacklevel=3,
        )


def add(comparisons: int) -> None:
    """Count comparisons that the judge did not decide."""
    global _total
    with _lock:
        _total += comparisons
