"""Rules that say from an interval whether a claim of the paper holds: yes, no or within noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum

from lit_prm.evaluation.estimate import Estimate

MARGIN = 3.0  # points that count as no difference


class ClaimVerdict(StrEnum):
    """The answer to "the same as in the paper?"."""

    YES = "yes"
    NO = "no"
    NOISE = "within noise"
    MISSING = "-"


class Rule(ABC):
    """Turns an estimate with its interval into a verdict; ``text`` explains the rule to readers."""

    text: str

    def verdict(self, estimate: Estimate | None) -> ClaimVerdict:
        """The verdict on an estimate; MISSING if there is none."""
        if estimate is None:
            return ClaimVerdict.MISSING
        return (
            ClaimVerdict.YES
            if self.holds(estimate)
            else ClaimVerdict.NO
            if self.fails(estimate)
            else ClaimVerdict.NOISE
        )

    @abstractmethod
    def holds(self, estimate: Estimate) -> bool: ...

    @abstractmethod
    def fails(self, estimate: Estimate) -> bool: ...


class Above(Rule):
    """The difference is positive."""

    text = "above 0: yes when the whole interval is above 0, no when it is below"

    def holds(self, estimate: Estimate) -> bool:
        return estimate.low > 0

    def fails(self, estimate: Estimate) -> bool:
        return estimate.high < 0


class Below(Rule):
    """The difference is negative."""

    text = "below 0: yes when the whole interval is below 0, no when it is above"

    def holds(self, estimate: Estimate) -> bool:
        return estimate.high < 0

    def fails(self, estimate: Estimate) -> bool:
        return estimate.low > 0


class Same(Rule):
    """The difference is within MARGIN of 0, as in the paper."""

    text = (
        f"no difference: yes when the interval lies within ±{MARGIN:g} points, "
        f"no when it excludes 0 and the difference is larger than {MARGIN:g} points"
    )

    def holds(self, estimate: Estimate) -> bool:
        return -MARGIN < estimate.low <= estimate.high < MARGIN

    def fails(self, estimate: Estimate) -> bool:
        return abs(estimate.mean) > MARGIN and not estimate.low <= 0 <= estimate.high


class Kept(Rule):
    """The difference is no loss of more than MARGIN."""

    text = (
        f"not lost: yes when the interval lies above -{MARGIN:g} points, "
        f"no when it is below 0 and the loss is larger than {MARGIN:g} points"
    )

    def holds(self, estimate: Estimate) -> bool:
        return estimate.low > -MARGIN

    def fails(self, estimate: Estimate) -> bool:
        return estimate.high < 0 and estimate.mean < -MARGIN


class Dearer(Rule):
    """The ratio of costs is above 1."""

    text = "dearer: yes when the ratio is above 1 in every seed, no when it is below 1 in every seed"

    def holds(self, estimate: Estimate) -> bool:
        return estimate.low > 1

    def fails(self, estimate: Estimate) -> bool:
        return estimate.high < 1


RULES: tuple[Rule, ...] = (Above(), Below(), Same(), Kept(), Dearer())
