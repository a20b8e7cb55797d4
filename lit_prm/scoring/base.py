"""The one interface of everything that scores responses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lit_prm.records import Group
from lit_prm.scored import Rewards


class Scorer(ABC):
    """Gives every response rewards of its tokens, steps and the whole.

    Laws: what a group gets depends neither on the other groups nor on its place among them beyond float32 rounding;
    the same groups in the same call give the same bytes on CPU; step spans tile the response's text.
    """

    detail: Literal["tokens", "steps"] = "steps"  # the finest rewards it gives

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What the scores hang on, as JSON: model, reference, beta, template, step rule, length limit, dtype.

        ``aggregate`` names the primary one of ``selection.AGGREGATES`` that makes a response's score.
        """

    @abstractmethod
    def score(self, groups: Sequence[Group]) -> list[list[Rewards]]:
        """Rewards of every response of every group, in order; labels are never looked at."""

    def check(self, groups: Sequence[Group]) -> None:  # noqa: B027  not all have another way to compare with
        """Refuse, before much is scored, what would be scored wrongly."""
