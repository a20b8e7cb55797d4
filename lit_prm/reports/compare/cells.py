"""Tables as data and numbers as text: what the terminal, Markdown and HTML show alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lit_prm.reports.compare.estimates import Estimate

NOTHING = "-"


class Cell(str):
    """Text with what it is: ``best`` of its column, a ``gain`` or a ``loss`` beyond noise, ``quiet`` beside others."""

    __slots__ = ("tone",)
    tone: str

    def __new__(cls, text: str, tone: str = "") -> Cell:
        made = super().__new__(cls, text)
        made.tone = tone
        return made


@dataclass(frozen=True)
class Table:
    """A heading and rows of as many cells; the first column is text, the others too unless they are ``numbers``."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    numbers: bool = True
    folded: bool = False  # shown on demand


def tone(cell: str) -> str:
    """Of a plain string none."""
    return cell.tone if isinstance(cell, Cell) else ""


def level(found: Estimate | None) -> str:
    """`42.5 [40.1, 44.9]`; the value alone where its interval is not known."""
    if found is None:
        return NOTHING
    ends = "" if math.isnan(found.low) else f" [{found.low:.1f}, {found.high:.1f}]"
    return f"{found.mean:.1f}{ends}"


def gain(found: Estimate | None) -> str:
    """`+3.1 [+1.2, +5.0]`."""
    if found is None:
        return NOTHING
    ends = "" if math.isnan(found.low) else f" [{found.low:+.1f}, {found.high:+.1f}]"
    return f"{found.mean:+.1f}{ends}"


def plain(value: float | None, digits: int = 1) -> str:
    """A number without interval."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def power(value: float | None) -> str:
    """`3.4e18`."""
    return NOTHING if value is None else "0" if value == 0 else f"{value:.1e}".replace("e+", "e")


def probability(p: float) -> str:
    """`p = 0.012`, `p < 0.001`; nothing where it is not known."""
    return "" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def duration(seconds: float | None) -> str:
    """`104 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return NOTHING
    return (
        f"{seconds:.0f} s"
        if seconds < 180
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def shared(values: Sequence[str]) -> str:
    """The values that differ, in order, joined."""
    return ", ".join(dict.fromkeys(values))


def versus(names: Sequence[str]) -> str:
    """`a vs b`; of many the first, and how many more."""
    return " vs ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
