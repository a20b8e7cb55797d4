"""Guesses that read nothing: what an F1 is worth by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from lit_prm.evaluation.first_error import Floats, Ints


class Guess(ABC):
    """Names a first error, or -1 for none, with chances that depend on nothing but the number of steps."""

    name: ClassVar[str]

    def fitted(self, first_error: Ints) -> Guess:
        """The guess after a look at the labels of the choosing subset, [R]; most need none."""
        return self

    @abstractmethod
    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        """The chance of naming just this, for responses of so many steps; [R], [R] -> [R]."""


class AlwaysRight(Guess):
    """Never sees an error: F1 is 0."""

    name = "always -1"

    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        return np.asarray(first_error == -1, dtype=float)


class AlwaysFirst(Guess):
    """Blames the first step: F1 is 0."""

    name = "always step 0"

    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        return np.asarray(first_error == 0, dtype=float)


class UniformGuess(Guess):
    """Draws one of the steps or none, each with the same chance."""

    name = "random"

    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        return 1.0 / (sizes + 1)


@dataclass(frozen=True)
class CommonestPlace(Guess):
    """Blames the step where most first errors lie, the last one of shorter responses, and with chance ``none`` nothing.

    Place and chance are those with the best F1 on the choosing subset. If a share c of its errors lies at
    the place, the chance sqrt(c) / (1 + sqrt(c)) gives the best harmonic mean of it and (1 - it) c.
    """

    name = "commonest place or none"
    place: int = 0
    none: float = 0.5

    def fitted(self, first_error: Ints) -> CommonestPlace:
        counts = Counter(first_error[first_error >= 0].tolist())
        if not counts:
            return self
        place, count = min(counts.items(), key=lambda found: (-found[1], found[0]))
        root = sqrt(count / counts.total())
        return CommonestPlace(place, root / (1 + root))

    def hit(self, first_error: Ints, sizes: Ints) -> Floats:
        blamed = first_error == np.minimum(self.place, sizes - 1)
        return np.where(first_error == -1, self.none, np.where(blamed, 1 - self.none, 0.0))


GUESSES: tuple[Guess, ...] = (AlwaysRight(), AlwaysFirst(), UniformGuess(), CommonestPlace())
