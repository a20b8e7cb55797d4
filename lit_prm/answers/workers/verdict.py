"""The result of a symbolic comparison."""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """Result of a comparison. UNDECIDED: it exceeded its limit or crashed. INTERRUPTED: it got no processor time."""

    UNEQUAL = b"0"
    EQUAL = b"1"
    UNDECIDED = b"?"
    INTERRUPTED = b"!"
