"""One subset: responses whose first wrong step is labelled, and the numbers that a scorer gives their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

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


@dataclass(frozen=True)
class StepReading:
    """Chooses the number of a step; lower is worse. ``trained`` is False if the number needs no trained model.

    ``of`` gives one number for each step, None where a step has none; None if the scorer gives no such numbers at all.
    """

    name: str
    of: Callable[[Rewards], Numbers | None]
    trained: bool = True


STEP_REWARDS = StepReading("step rewards", lambda rewards: rewards.step_rewards)
"""For an implicit reward the differences of values."""

PREFIX_VALUES = StepReading("prefix values", lambda rewards: rewards.step_values)
"""The value of the prefix that ends with each step, as in the script of the implicit PRM paper."""

REFERENCE = StepReading("reference log-likelihood", lambda rewards: rewards.reference_logps, trained=False)
"""The untrained reference's log-probs, summed over the step."""

LENGTH = StepReading("shorter steps", lambda r: [float(start - end) for start, end in r.step_spans], trained=False)
"""Minus the characters of the step: a step reward is a sum over tokens, so longer steps tend to be lower."""

READINGS = (STEP_REWARDS, PREFIX_VALUES, REFERENCE, LENGTH)


@dataclass(frozen=True, slots=True)
class Subset:
    """R responses whose first wrong step is known, with their rewards."""

    name: str
    labels: Known
    rewards: tuple[Rewards, ...]

    @classmethod
    def of(cls, name: str, scored: ScoredGroups) -> Subset:
        """The labelled responses of a scored file; ValueError if none is labelled or other steps were scored."""
        known = Known.of(scored.groups)
        rewards = [r for of_group in scored.rewards for r in of_group]
        chosen = tuple(rewards[i] for i in known.at)
        if not chosen:
            raise ValueError(f"{scored.source} has no labelled first error. Give items in the layout of ProcessBench.")
        _refuse_other_steps(scored, known.at)
        return cls(name, known, chosen)

    def scores(self, reading: StepReading) -> StepScores | None:
        """The numbers of all steps under a reading; None if the scorer gives no response such numbers."""
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
        """How many responses were cut before they were scored; steps beyond the cut have no numbers."""
        return sum(r.truncated for r in self.rewards)

    @property
    def without_reward(self) -> int:
        """How many responses have a reward that is no number."""
        return sum(r.lacks_numbers for r in self.rewards)

    @property
    def errors_without_score(self) -> int:
        """How many wrong responses have no reward for their first wrong step, so that no threshold finds the step."""
        pairs = zip(self.rewards, self.labels.first_error, strict=True)
        return sum(bool(e >= 0) and r.step_rewards[e] is None for r, e in pairs)


def _refuse_other_steps(scored: ScoredGroups, at: Ints) -> None:
    rollouts = [(g, r) for g in scored.groups for r in g.rollouts]
    rewards = [r for of_group in scored.rewards for r in of_group]
    for i in at:
        group, rollout = rollouts[i]
        if tuple(rewards[i].step_spans) != _spans(rollout):
            raise ValueError(
                f"{scored.source}: problem {group.problem.id} was scored in {len(rewards[i].step_spans)} steps, but "
                f"its label counts {len(rollout.steps or ())}. Score it by its own steps."
            )


def _spans(rollout: Rollout) -> tuple[tuple[int, int], ...]:
    return tuple(pairwise(accumulate(map(len, rollout.steps or ()), initial=0)))
