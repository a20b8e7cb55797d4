"""Vote weights: what one response's score counts in a weighted vote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from lit_prm.evaluation.votes import Floats


class VoteWeight(ABC):
    """Turns the scores [K] of one problem into vote weights [K] >= 0.

    Scores of one problem share an offset nobody knows (a reward is known up to a function of the
    prompt): a strategy either ignores it or says that it does not.
    """

    takes_negative: ClassVar[bool] = True  # whether scores may be below 0

    @abstractmethod
    def __call__(self, scores: Floats) -> Floats: ...


@dataclass(frozen=True)
class EqualWeight(VoteWeight):
    """Every candidate counts the same: majority vote."""

    def __call__(self, scores: Floats) -> Floats:
        return np.ones(len(scores))


@dataclass(frozen=True)
class Sigmoid(VoteWeight):
    """sigmoid(scale * score): the chance of being right if the score is a log-odds; moves with the offset."""

    scale: float = 1.0

    def __call__(self, scores: Floats) -> Floats:
        return cast(Floats, np.exp(-np.logaddexp(0.0, -self.scale * np.asarray(scores, float))))


@dataclass(frozen=True)
class Softmax(VoteWeight):
    """exp(score / temperature), the best of the problem at 1: the unknown offset cancels."""

    temperature: float = 1.0

    def __call__(self, scores: Floats) -> Floats:
        score = np.asarray(scores, float)
        best = score.max()
        below = np.subtract(score, best, where=score != best, out=np.zeros(len(score)))  # inf - inf is nan
        return cast(Floats, np.exp(below / self.temperature))


@dataclass(frozen=True)
class Rank(VoteWeight):
    """1 for the worst of the problem to K for the best, ties share: any increasing map of scores gives the same."""

    def __call__(self, scores: Floats) -> Floats:
        _, block = np.unique(scores, return_inverse=True)
        size = np.bincount(block)
        return np.asarray((np.cumsum(size) - (size - 1) / 2)[block], float)


@dataclass(frozen=True)
class Unchanged(VoteWeight):
    """The scores themselves, as chances and counts allow; refused below 0. A response without steps weighs nothing."""

    takes_negative = False

    def __call__(self, scores: Floats) -> Floats:
        score = np.asarray(scores, float)
        weight = np.where(np.isneginf(score), 0.0, score)
        if (weight < 0).any():
            raise ValueError(
                f"scores go down to {weight.min():.4g}; their sum is a vote only where none is below 0: "
                "weigh by sigmoid, softmax or rank"
            )
        return weight
