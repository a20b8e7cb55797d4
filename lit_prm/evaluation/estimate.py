"""A mean with its 95 % interval, and how every table writes numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

NOTHING = "-"  # stands for a number that is not known


class Estimate(NamedTuple):
    """A mean and the ends of its 95 % interval; the ends are nan where the spread is not known."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, per_problem: ArrayLike) -> Estimate:
        """The mean of ``per_problem`` [P] with its bootstrap interval over problems."""
        import numpy as np

        from lit_prm.evaluation.intervals import bootstrap_interval

        return cls(float(np.asarray(per_problem, float).mean()), *bootstrap_interval(per_problem))

    @classmethod
    def recorded(cls, metrics: Mapping[str, float | None], key: str) -> Estimate | None:
        """The metric ``key`` with its ends ``key/low`` and ``key/high``; None where it was not recorded."""
        mean, *ends = (metrics.get(f"{key}{end}") for end in ("", "/low", "/high"))
        return None if mean is None else cls(mean, *(math.nan if end is None else end for end in ends))

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def scaled(self, factor: float = 100) -> Estimate:
        """The estimate times ``factor``: a share as percent."""
        return Estimate(*(factor * value for value in self))


def by_count(counts: Sequence[int], values: Any, interval: bool = True) -> dict[int, Estimate]:
    """The mean over problems, with its interval, for each of the C candidate counts, in percent.

    ``values`` is [P, C] in [0, 1] for P problems. Without ``interval`` the ends are nan.
    """
    made = Estimate.of if interval else lambda column: Estimate(float(column.mean()), math.nan, math.nan)
    return {n: made(column).scaled() for n, column in zip(counts, values.T, strict=True)}


def level(estimate: Estimate | None, ends: str = ".1f") -> str:
    """`42.5 [40.1, 44.9]`; the mean alone where its interval is not known."""
    return _written(estimate, ".1f", ends)


def gain(estimate: Estimate | None) -> str:
    """`+3.1 [+1.2, +5.0]`: a difference with its sign."""
    return _written(estimate, "+.1f", "+.1f")


def plus_minus(estimate: Estimate | None) -> str:
    """`42.5 ±2.1`: the mean and half the width of its interval, where a table has no room for both ends."""
    return NOTHING if estimate is None else f"{estimate.mean:.1f} ±{estimate.half:.1f}"


def _written(estimate: Estimate | None, form: str, ends: str) -> str:
    if estimate is None or math.isnan(estimate.mean):
        return NOTHING
    mean, low, high = estimate
    return f"{mean:{form}}" + ("" if math.isnan(low) else f" [{low:{ends}}, {high:{ends}}]")


def number(value: float | None, form: str = ".1f") -> str:
    """A number without interval; a dash where it is None or nan."""
    return NOTHING if value is None or math.isnan(value) else format(value, form)


def percent(share: float | None) -> str:
    """`42.5` for 0.425."""
    return number(None if share is None else 100 * share)


def power(value: float | None) -> str:
    """`3.4e18`."""
    return "0" if value == 0 else number(value, ".1e").replace("e+", "e")


def probability(p: float) -> str:
    """`p = 0.012`, `p < 0.001`; nothing where it is nan."""
    return "" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
