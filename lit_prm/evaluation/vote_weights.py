"""Vote weights: turn the score of a response into the weight of its vote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from lit_prm.evaluation.votes import Floats


class VoteWeight(ABC):
    """Turns the scores [K] of one problem into vote weights [K] >= 0.

    Scores of one problem share an unknown offset, since a reward is defined up to a function of the prompt. Each
    subclass ignores the offset or says that it does not.
    """

    takes_negative: ClassVar[bool] = True  # whether scores may be below 0

    @abstractmethod
    def __call__(self, scores: Floats) -> Floats: ...


@dataclass(frozen=True)
class EqualWeight(VoteWeight):
    """Weight 1 for every candidate: majority vote."""

    def __call__(self, scores: Floats) -> Floats:
        return np.ones(len(scores))


@dataclass(frozen=True)
class Sigmoid(VoteWeight):
    """sigmoid(scale * score): the probability of a right response if the score is a log-odds; depends on the offset."""

    scale: float = 1.0

    def __call__(self, scores: Floats) -> Floats:
        return cast(Floats, np.exp(-np.logaddexp(0.0, -self.scale * np.asarray(scores, float))))


@dataclass(frozen=True)
class Softmax(VoteWeight):
    """exp(score / temperature), scaled so that the best score of the problem has weight 1: the offset cancels."""

    temperature: float = 1.0

    def __call__(self, scores: Floats) -> Floats:
        score = np.asarray(scores, float)
        best = score.max()
        below = np.subtract(score, best, where=score != best, out=np.zeros(len(score)))  # inf - inf is nan
        return cast(Floats, np.exp(below / self.temperature))


@dataclass(frozen=True)
class Rank(VoteWeight):
    """Rank from 1 (worst of the problem) to K (best), ties share: equal for any increasing map of the scores."""

    def __call__(self, scores: Floats) -> Floats:
        _, block = np.unique(scores, return_inverse=True)
        size = np.bincount(block)
        return np.asarray((np.cumsum(size) - (size - 1) / 2)[block], float)


@dataclass(frozen=True)
class Unchanged(VoteWeight):
    """The scores themselves, which must not be negative. A response without steps has weight 0."""

    takes_negative = False

    def __call__(self, scores: Floats) -> Floats:
        score = np.asarray(scores, float)
        weight = np.where(np.isneginf(score), 0.0, score)
        if (weight < 0).any():
            raise ValueError(
                f"The lowest score is {weight.min():.4g}, but vote weights must not be negative. "
                "Weigh by sigmoid, softmax or rank."
            )
        return weight
