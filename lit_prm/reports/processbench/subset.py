"""One subset: its responses with known first errors, and what a scorer says of their steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar, NamedTuple

import numpy as np

from lit_prm.data.records import Rollout
from lit_prm.evaluation.first_error import Floats, Ints, Known, Mask
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import ScoredGroups

Numbers = Sequence[float | None]


class StepScores(NamedTuple):
    """A number for each step of R responses, without their labels; S steps of the longest."""

    values: Floats  # [R, S], 0 where not valid
    valid: Mask  # [R, S]
    sizes: Ints  # [R] steps of each response, whether or not they have a number


class Labels(NamedTuple):
    """What is known of R responses."""

    first_error: Ints  # [R] -1: every step is right
    problem: Ints  # [R] equal for responses to the same problem


class StepReading(ABC):
    """Which number stands for a step; a lower one is a worse step. ``trained``: it comes from what was trained."""

    name: ClassVar[str]
    trained: ClassVar[bool] = True

    @abstractmethod
    def of(self, rewards: Rewards) -> Numbers | None:
        """One number a step, None where there is none; None for all where the scorer gives no such numbers."""


class StepRewards(StepReading):
    """The step rewards: for an implicit reward the differences of values."""

    name = "step rewards"

    def of(self, rewards: Rewards) -> Numbers:
        return rewards.step_rewards


class PrefixValues(StepReading):
    """The values of the prefixes that end with each step, which the script of the implicit PRM paper looks at."""

    name = "prefix values"

    def of(self, rewards: Rewards) -> Numbers | None:
        return rewards.step_values if any(x is not None for x in rewards.step_values) else None


class ReferenceLikelihood(StepReading):
    """The untrained reference's log-probs, summed over the step."""

    name = "reference log-likelihood"
    trained = False

    def of(self, rewards: Rewards) -> Numbers | None:
        return rewards.reference_logps


class StepLength(StepReading):
    """Minus the step's characters: sums over tokens are lower for longer steps, whatever stands in them."""

    name = "shorter steps"
    trained = False

    def of(self, rewards: Rewards) -> Numbers:
        return [float(start - end) for start, end in rewards.step_spans]


READINGS: tuple[StepReading, ...] = (StepRewards(), PrefixValues(), ReferenceLikelihood(), StepLength())


@dataclass(frozen=True, slots=True)
class Subset:
    """R responses whose first wrong step is known, with their rewards."""

    name: str
    labels: Labels
    rewards: tuple[Rewards, ...]

    @classmethod
    def of(cls, name: str, scored: ScoredGroups) -> Subset:
        """Those of a scored file; a file without known first errors, or scored by other steps, is refused."""
        known = Known.of(scored.groups)
        rewards = [r for of_group in scored.rewards for r in of_group]
        chosen = tuple(rewards[i] for i in known.at)
        if not chosen:
            raise ValueError(f"{scored.source}: no first error is known; give items in the layout of ProcessBench")
        _refuse_other_steps(scored, known.at)
        return cls(name, Labels(known.first_error, known.problem), chosen)

    def scores(self, reading: StepReading) -> StepScores | None:
        """The steps under a reading; None where the scorer has no such numbers for any response."""
        values = np.full((len(self.rewards), max(self.sizes)), np.nan)
        for row, rewards in zip(values, self.rewards, strict=True):
            numbers = reading.of(rewards) or ()
            row[: len(numbers)] = [np.nan if x is None else x for x in numbers]
        valid = ~np.isnan(values)
        return StepScores(np.where(valid, values, 0.0), valid, self.sizes) if valid.any() else None

    @property
    def sizes(self) -> Ints:
        """Steps of each response; [R]."""
        return np.array([len(r.step_spans) for r in self.rewards], dtype=np.intp)

    @property
    def truncated(self) -> int:
        """Responses that were scored up to a cut; the steps beyond it have no numbers."""
        return sum(r.truncated for r in self.rewards)

    @property
    def errors_without_score(self) -> int:
        """Wrong responses whose first wrong step has no reward, so that no threshold finds it."""
        pairs = zip(self.rewards, self.labels.first_error, strict=True)
        return sum(bool(e >= 0) and r.step_rewards[e] is None for r, e in pairs)


def _refuse_other_steps(scored: ScoredGroups, at: Ints) -> None:
    rollouts = [(g, r) for g in scored.groups for r in g.rollouts]
    rewards = [r for of_group in scored.rewards for r in of_group]
    for i in at:
        group, rollout = rollouts[i]
        if tuple(rewards[i].step_spans) != _spans(rollout):
            raise ValueError(
                f"{scored.source}: problem {group.problem.id} was scored in {len(rewards[i].step_spans)} steps, not in "
                f"the {len(rollout.steps or ())} that its label counts; score it by its own steps"
            )


def _spans(rollout: Rollout) -> tuple[tuple[int, int], ...]:
    return tuple(pairwise(accumulate(map(len, rollout.steps or ()), initial=0)))
