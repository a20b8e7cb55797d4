"""Accuracy of the answer that is selected among a problem's candidates, averaged over problems."""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_prm.evaluation import selection, votes
from lit_prm.evaluation.metrics.base import ResponseColumns, ResponseMetric, ScoreMetric, per_problem
from lit_prm.evaluation.vote_weights import Sigmoid, VoteWeight


class BestOfNAccuracy(ScoreMetric):
    """Expected accuracy of the highest score among n random candidates (``evaluation.selection.best_of_n``)."""

    def __init__(self, n: int, aggregate: str | None = None, **kwargs: Any) -> None:
        super().__init__("correct", "problem", aggregate=aggregate, **kwargs)
        self.n = n

    def value(self, responses: ResponseColumns) -> float:
        parts = per_problem(responses, responses.score(self.aggregate), responses["correct"])
        return float(np.mean([selection.best_of_n(score, correct, self.n) for score, correct in parts]))


class Vote(ScoreMetric):
    """Expected accuracy of a weighted vote: the answer with the largest summed weight among n random candidates.

    ``weight`` turns a problem's scores into weights (default: sigmoid); ``seed`` draws the sets of n candidates.
    """

    def __init__(
        self, n: int, weight: VoteWeight | None = None, aggregate: str | None = None, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__("correct", "problem", "cluster", aggregate=aggregate, **kwargs)
        self.n = n
        self.weight = weight or Sigmoid()
        self.seed = seed

    def value(self, responses: ResponseColumns) -> float:
        columns = responses.score(self.aggregate), responses["cluster"], responses["correct"]
        scores, clusters, corrects = zip(*per_problem(responses, *columns), strict=True)
        weights = [self.weight(score) for score in scores]
        return float(votes.sampled_votes(weights, clusters, corrects, [self.n], self.seed).values.mean())


class Majority(ResponseMetric):
    """Expected accuracy of the most frequent answer among n random candidates (``votes.majority``)."""

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__("correct", "problem", "cluster", **kwargs)
        self.n = n

    def value(self, responses: ResponseColumns) -> float:
        parts = per_problem(responses, responses["cluster"], responses["correct"])
        return float(np.mean([votes.majority(cluster, correct, self.n) for cluster, correct in parts]))


class AnyOfN(ResponseMetric):
    """Probability that at least one of n random candidates is right, i.e. pass@n (``selection.any_of_n``)."""

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__("correct", "problem", **kwargs)
        self.n = n

    def value(self, responses: ResponseColumns) -> float:
        parts = per_problem(responses, responses["correct"])
        return float(np.mean([selection.any_of_n(correct, self.n) for (correct,) in parts]))
