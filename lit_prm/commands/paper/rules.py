"""When an estimate has the paper's shape: yes, no or within noise."""

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
    """Reads the interval of an estimate; ``text`` says how."""

    text: str

    def verdict(self, found: Estimate | None) -> ClaimVerdict:
        """MISSING without an estimate."""
        if found is None:
            return ClaimVerdict.MISSING
        return ClaimVerdict.YES if self.holds(found) else ClaimVerdict.NO if self.fails(found) else ClaimVerdict.NOISE

    @abstractmethod
    def holds(self, found: Estimate) -> bool: ...

    @abstractmethod
    def fails(self, found: Estimate) -> bool: ...


class Above(Rule):
    """More than nothing."""

    text = "above 0: yes when the whole interval is above 0, no when it is below"

    def holds(self, found: Estimate) -> bool:
        return found.low > 0

    def fails(self, found: Estimate) -> bool:
        return found.high < 0


class Below(Rule):
    """Less than nothing."""

    text = "below 0: yes when the whole interval is below 0, no when it is above"

    def holds(self, found: Estimate) -> bool:
        return found.high < 0

    def fails(self, found: Estimate) -> bool:
        return found.low > 0


class Same(Rule):
    """No difference worth naming, where the paper shows none."""

    text = (
        f"no difference: yes when the interval lies within ±{MARGIN:g} points, "
        f"no when it excludes 0 and the difference is larger than {MARGIN:g} points"
    )

    def holds(self, found: Estimate) -> bool:
        return -MARGIN < found.low <= found.high < MARGIN

    def fails(self, found: Estimate) -> bool:
        return abs(found.mean) > MARGIN and not found.low <= 0 <= found.high


class Kept(Rule):
    """Nothing worth naming lost."""

    text = (
        f"not lost: yes when the interval lies above -{MARGIN:g} points, "
        f"no when it is below 0 and the loss is larger than {MARGIN:g} points"
    )

    def holds(self, found: Estimate) -> bool:
        return found.low > -MARGIN

    def fails(self, found: Estimate) -> bool:
        return found.high < 0 and found.mean < -MARGIN


class Dearer(Rule):
    """A ratio of costs above 1."""

    text = "dearer: yes when the ratio is above 1 in every seed, no when it is below 1 in every seed"

    def holds(self, found: Estimate) -> bool:
        return found.low > 1

    def fails(self, found: Estimate) -> bool:
        return found.high < 1


RULES: tuple[Rule, ...] = (Above(), Below(), Same(), Kept(), Dearer())
