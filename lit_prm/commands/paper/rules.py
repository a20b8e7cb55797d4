"""Rules that say from an interval whether a claim of the paper holds: yes, no or within noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lit_prm.evaluation.estimate import Estimate

MARGIN = 3.0  # points that count as no difference


class ClaimVerdict(StrEnum):
    """The answer to "the same as in the paper?"."""

    YES = "yes"
    NO = "no"
    NOISE = "within noise"
    MISSING = "-"


@dataclass(frozen=True)
class Rule:
    """Turns an estimate with its interval into a verdict; ``text`` explains the rule to readers."""

    text: str
    holds: Callable[[Estimate], bool]
    fails: Callable[[Estimate], bool]

    def verdict(self, estimate: Estimate | None) -> ClaimVerdict:
        """The verdict on an estimate; MISSING if there is none."""
        if estimate is None:
            return ClaimVerdict.MISSING
        if self.holds(estimate):
            return ClaimVerdict.YES
        return ClaimVerdict.NO if self.fails(estimate) else ClaimVerdict.NOISE


RULES = {
    "above": Rule(
        "above 0: yes when the whole interval is above 0, no when it is below",
        holds=lambda e: e.low > 0,
        fails=lambda e: e.high < 0,
    ),
    "below": Rule(
        "below 0: yes when the whole interval is below 0, no when it is above",
        holds=lambda e: e.high < 0,
        fails=lambda e: e.low > 0,
    ),
    "same": Rule(
        f"no difference: yes when the interval lies within ±{MARGIN:g} points, "
        f"no when it excludes 0 and the difference is larger than {MARGIN:g} points",
        holds=lambda e: -MARGIN < e.low <= e.high < MARGIN,
        fails=lambda e: abs(e.mean) > MARGIN and not e.low <= 0 <= e.high,
    ),
    "kept": Rule(
        f"not lost: yes when the interval lies above -{MARGIN:g} points, "
        f"no when it is below 0 and the loss is larger than {MARGIN:g} points",
        holds=lambda e: e.low > -MARGIN,
        fails=lambda e: e.high < 0 and e.mean < -MARGIN,
    ),
    "dearer": Rule(  # of ratios of costs
        "dearer: yes when the ratio is above 1 in every seed, no when it is below 1 in every seed",
        holds=lambda e: e.low > 1,
        fails=lambda e: e.high < 1,
    ),
}
