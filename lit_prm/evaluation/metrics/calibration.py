"""Is sigmoid(score) the chance of being right?"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from lit_prm.evaluation.metrics.base import Array, Floats, ResponseColumns, ScoreMetric
from lit_prm.evaluation.vote_weights import Sigmoid


class _Calibration(ScoreMetric):
    higher_is_better = False

    def __init__(self, aggregate: str | None = None, **kwargs: Any) -> None:
        super().__init__("correct", aggregate=aggregate, **kwargs)


class CalibrationError(_Calibration):
    """Expected calibration error: mean distance of chance and accuracy over bins of equal mass."""

    def __init__(self, bins: int = 15, aggregate: str | None = None, **kwargs: Any) -> None:
        if bins < 1:
            raise ValueError(f"bins is {bins}; responses are compared within bins: use at least 1")
        super().__init__(aggregate, **kwargs)
        self.bins = bins

    def value(self, responses: ResponseColumns) -> float:
        return calibration_error(Sigmoid()(responses.score(self.aggregate)), responses["correct"], self.bins)


class Brier(_Calibration):
    """Mean squared distance of sigmoid(score) to correctness: 0 at best, 1/4 for always saying one half."""

    def value(self, responses: ResponseColumns) -> float:
        chance = Sigmoid()(responses.score(self.aggregate))
        return float(np.square(chance - responses["correct"]).mean())


def calibration_error(chance: Floats, correct: Array, bins: int) -> float:
    """Sum over bins of |sum of chances - number of right ones|, per response; [R], [R].

    Bins hold equal numbers of responses in order of their chance, but equal chances share a bin, so the order of the
    responses does not matter (Naeini et al. 2015; equal mass: Nixon et al. 2019).
    """
    _, block, size = np.unique(chance, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - (size + 1) / 2  # mean rank of a block, from 0
    bin_of = (middle * bins // len(chance)).astype(int)[block]
    gap = np.bincount(bin_of, chance) - np.bincount(bin_of, cast(Any, correct))
    return float(np.abs(gap).sum() / len(chance))
