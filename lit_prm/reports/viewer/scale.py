"""The diverging colour scale of rewards: its centre and the distance of its ends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

SHARE = 95.0  # percent of the rewards within the ends of the scale; the others have the colour of an end


class Scale(NamedTuple):
    """A colour scale from ``centre - reach`` to ``centre + reach``."""

    centre: float
    reach: float
    probabilities: bool

    @property
    def digits(self) -> int:
        """Decimals to show: three significant digits at the ends of the scale."""
        return max(0, 2 - math.floor(math.log10(self.reach)))

    @classmethod
    def of(cls, rewards: Iterable[float | None]) -> Scale:
        """From 0 to 1 if all rewards lie in [0, 1]; else around 0, up to the 95th percentile of absolute rewards."""
        finite = np.array([x for x in rewards if x is not None], dtype=float)
        finite = finite[np.isfinite(finite)]
        if len(finite) and finite.min() >= 0 and finite.max() <= 1 and finite.any():
            return cls(0.5, 0.5, True)
        reach = float(np.percentile(np.abs(finite), SHARE)) if len(finite) else 0.0
        return cls(0.0, float(f"{reach or np.abs(finite).max(initial=0.0) or 1.0:.2g}"), False)
