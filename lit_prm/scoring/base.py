"""The one interface of everything that scores responses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.scoring.rewards import Rewards


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

        ``aggregate`` names the primary one of ``aggregates.AGGREGATES`` that makes a response's score.
        """

    @property
    def rounding(self) -> Sequence[Any]:
        """What else decides the last digits, as JSON: a job goes on only where these are the same."""
        return ()

    @abstractmethod
    def score(self, groups: Sequence[Group]) -> list[list[Rewards]]:
        """Rewards of every response of every group, in order; labels are never looked at."""

    def score_texts(self, problem: str, responses: Sequence[str]) -> list[Rewards]:
        """Rewards of responses to a question, as plain texts."""
        if isinstance(responses, str):
            raise ValueError(f"responses is one text {responses[:40]!r}, not a list of them; write [response]")
        rollouts = tuple(Rollout(response=response) for response in responses)
        return self.score([Group(problem=Problem(prompt=problem, id="0"), rollouts=rollouts)])[0]

    def refuse_too_long(self, groups: Sequence[Group]) -> None:  # noqa: B027  not all have prompts of their own
        """Refuse problems of which no response could be scored, all at once."""

    def check(self, groups: Sequence[Group]) -> None:  # noqa: B027  not all have another way to compare with
        """Refuse, before much is scored, what would be scored wrongly."""
