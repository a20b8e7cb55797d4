"""Cells and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lit_prm.reports.compare.cells import NOTHING, gain, plain, power
from lit_prm.reports.compare.estimates import Estimate

__all__ = ["NOTHING", "against", "gain", "level", "plain", "power", "table", "times"]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """The first column left, the others right where they are ``numbers``."""
    rule = ["---"] + ["---:" if numbers else "---"] * (len(heading) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, rule, *rows)) + "\n"


def level(found: Estimate | None) -> str:
    """`42.5 ±2.1`: the mean and half the width of its interval."""
    return NOTHING if found is None else f"{found.mean:.1f} ±{found.half:.1f}"


def times(found: Estimate | None) -> str:
    """`× 21.3`, with the range of seeds where they differ."""
    if found is None:
        return NOTHING
    spread = found.high - found.low > 0.05
    return f"× {found.mean:.1f}" + (f" [{found.low:.1f}, {found.high:.1f}]" if spread else "")


def against(found: Estimate | None) -> str:
    """`+3.1 above`, `-2.0 below`, `+0.5 noise`: whether the interval of a difference excludes 0."""
    if found is None:
        return NOTHING
    return f"{found.mean:+.1f} " + ("above" if found.low > 0 else "below" if found.high < 0 else "noise")
