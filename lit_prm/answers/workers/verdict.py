"""What a comparison of two answers ends with."""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What a judge found. Undecided: it spent its limit or crashed; interrupted: the machine did not let it."""

    UNEQUAL = b"0"
    EQUAL = b"1"
    UNDECIDED = b"?"
    INTERRUPTED = b"!"
