"""Baselines that ignore the rewards: the F1 that chance, a fixed position or the number of steps reaches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from math import sqrt

import numpy as np

from lit_prm.evaluation.first_error import Floats, Ints


class Guess(ABC):
    """A random choice of the first wrong step, or -1 for none, that depends on the number of steps only."""

    name: str

    def fitted(self, first_error: Ints) -> Guess:
        """The guess fitted to the labels [R] of the choosing subset; most guesses need no fit."""
        return self

    @abstractmethod
    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        """Probability of naming ``first_error`` in a response of ``sizes`` steps; [R], [R] -> [R]."""


@dataclass(frozen=True)
class AlwaysGuess(Guess):
    """Names the same step in every response, or with -1 calls every response right: F1 is 0."""

    name: str
    place: int

    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        return np.asarray(first_error == self.place, dtype=float)


class UniformGuess(Guess):
    """Draws one of the steps or none, each with the same probability."""

    name = "random"

    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        return 1.0 / (sizes + 1)


@dataclass(frozen=True)
class CommonestPlace(Guess):
    """Names the commonest position of first errors (in shorter responses the last step), or -1 with chance ``none``.

    Position and chance are those with the best F1 on the choosing subset. If a share c of its errors lies at the
    position, F1 is the harmonic mean of ``none`` and (1 - ``none``) c, and none = sqrt(c) / (1 + sqrt(c)) is best.
    """

    place: int = 0
    none: float = 0.5
    name: str = "commonest place or none"

    def fitted(self, first_error: Ints) -> CommonestPlace:
        counts = Counter(first_error[first_error >= 0].tolist())
        if not counts:
            return self
        place, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
        root = sqrt(count / counts.total())
        return CommonestPlace(place, root / (1 + root))

    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        blamed = first_error == np.minimum(self.place, sizes - 1)
        return np.where(first_error == -1, self.none, np.where(blamed, 1 - self.none, 0.0))


GUESSES: tuple[Guess, ...] = (
    AlwaysGuess("always -1", -1),
    AlwaysGuess("always step 0", 0),
    UniformGuess(),
    CommonestPlace(),
)
