"""Calibration: is sigmoid(score) the probability that the response is right?"""

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
    """Expected calibration error: mean distance of sigmoid(score) and accuracy over bins of equally many responses."""

    def __init__(self, bins: int = 15, aggregate: str | None = None, **kwargs: Any) -> None:
        if bins < 1:
            raise ValueError(f"bins is {bins}. Responses are compared within bins, so give at least 1.")
        super().__init__(aggregate, **kwargs)
        self.bins = bins

    def value(self, responses: ResponseColumns) -> float:
        return calibration_error(Sigmoid()(responses.score(self.aggregate)), responses["correct"], self.bins)


class Brier(_Calibration):
    """Brier score: mean squared distance of sigmoid(score) and correctness; 0 is best, always 1/2 gives 1/4."""

    def value(self, responses: ResponseColumns) -> float:
        probability = Sigmoid()(responses.score(self.aggregate))
        return float(np.square(probability - responses["correct"]).mean())


def calibration_error(probability: Floats, correct: Array, bins: int) -> float:
    """Sum over bins of |sum of probabilities - number of right responses|, divided by R; [R], [R].

    Bins hold equal numbers of responses in ascending order of probability. Equal probabilities share a bin, so the
    order of the responses does not matter (Naeini et al. 2015; equal mass: Nixon et al. 2019).
    """
    _, block, size = np.unique(probability, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - (size + 1) / 2  # mean rank of a block, from 0
    bin_of = (middle * bins // len(probability)).astype(int)[block]
    gap = np.bincount(bin_of, probability) - np.bincount(bin_of, cast(Any, correct))
    return float(np.abs(gap).sum() / len(probability))
