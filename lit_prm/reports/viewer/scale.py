"""What reward is coloured how: the middle of a diverging scale and how far its ends are from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

SHARE = 95.0  # percent of the rewards that are told apart by colour; the rest have the colour of an end


class Scale(NamedTuple):
    """Rewards from ``centre - reach`` to ``centre + reach`` have colours of their own."""

    centre: float
    reach: float
    probabilities: bool

    @property
    def digits(self) -> int:
        """Decimals that tell rewards of this reach apart: three digits at the ends."""
        return max(0, 2 - math.floor(math.log10(self.reach)))

    @classmethod
    def of(cls, rewards: Iterable[float | None]) -> Scale:
        """Around 0.5, to 0 and 1, where all rewards lie in [0, 1]; else around 0, to the 95th percentile of sizes."""
        known = np.array([x for x in rewards if x is not None], dtype=float)
        known = known[np.isfinite(known)]
        if len(known) and known.min() >= 0 and known.max() <= 1 and known.any():
            return cls(0.5, 0.5, True)
        reach = float(np.percentile(np.abs(known), SHARE)) if len(known) else 0.0
        return cls(0.0, float(f"{reach or np.abs(known).max(initial=0.0) or 1.0:.2g}"), False)
