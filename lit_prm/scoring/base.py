"""The interface of everything that scores responses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.scoring.rewards import Rewards

Detail = Literal["tokens", "steps"]


class Scorer(ABC):
    """Computes rewards of every response: of its tokens, of its steps and of the whole.

    Laws: the rewards of a group depend neither on the other groups nor on its place among them, beyond float32
    rounding; equal calls give equal bytes on CPU; step spans tile the response's text.
    """

    detail: Detail = "steps"  # the finest rewards that this scorer gives

    identity: Mapping[str, Any]
    """What the scores depend on, as JSON: model, reference, beta, template, step rule, length limit, dtype.

    ``aggregate`` names the one of ``aggregates.AGGREGATES`` that turns step rewards into a response's score.
    """

    rounding: Sequence[Any] = ()
    """What else decides the last digits, as JSON. An interrupted job continues only if this is unchanged."""

    @abstractmethod
    def score(self, groups: Sequence[Group]) -> list[list[Rewards]]:
        """Rewards of every response of every group, in order. Labels are never read."""

    def score_texts(self, problem: str, responses: Sequence[str]) -> list[Rewards]:
        """Rewards of responses to one question, given as plain texts."""
        if isinstance(responses, str):
            raise ValueError(
                f"responses is one text {responses[:40]!r}, not a list of texts. Write [response] to score one."
            )
        rollouts = tuple(Rollout(response=response) for response in responses)
        return self.score([Group(problem=Problem(prompt=problem, id="0"), rollouts=rollouts)])[0]

    def written_out(self, groups: Sequence[Group]) -> Sequence[Group]:
        """The groups with every response as the text that spans count characters of; ``score`` scores this text.

        Without a chat template of its own, a scorer raises ValueError for responses that are messages.
        """
        for group in groups:
            if fields := {field for rollout in group.rollouts for field in rollout.message or ()}:
                raise ValueError(
                    f"problem {group.problem.id} has a response with the fields {sorted(fields)}, and this scorer "
                    "takes text alone. Give the response as text."
                )
        return groups

    def refuse_too_long(self, groups: Sequence[Group]) -> None:  # noqa: B027  a scorer may truncate instead
        """Raise ValueError for problems whose prompt leaves no room for a response; the error lists all of them."""

    def fitting(self, groups: Sequence[Group]) -> Sequence[Group]:
        """The groups that ``refuse_too_long`` does not refuse."""
        return groups

    def check(self, groups: Sequence[Group]) -> None:  # noqa: B027  not every scorer can compare
        """Raise ValueError, before a long job starts, if these groups would be scored wrongly."""
