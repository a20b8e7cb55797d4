"""AUC and F1: scores of right and wrong responses, step rewards of right and wrong steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_prm.evaluation.discrimination import auc
from lit_prm.evaluation.first_error import cross_fitted_f1, f1, first_below, judged_steps
from lit_prm.evaluation.metrics.base import ResponseColumns, ResponseMetric, ScoreMetric, per_problem


class OutcomeAUC(ScoreMetric):
    """ROC AUC: share of pairs in which the right response scores higher than the wrong one; ties count half.

    Over all pairs, or ``within_problems``: over pairs of one problem, averaged over problems. Best-of-N selection
    depends on the latter alone, because rewards are comparable only between responses to one prompt.
    """

    def __init__(self, within_problems: bool = False, aggregate: str | None = None, **kwargs: Any) -> None:
        super().__init__("correct", "problem", aggregate=aggregate, **kwargs)
        self.within_problems = within_problems

    def value(self, responses: ResponseColumns) -> float:
        score, correct = responses.score(self.aggregate), responses["correct"] > 0.5
        if not self.within_problems:
            return auc(score[correct], score[~correct])
        parts = [auc(s[c], s[~c]) for s, c in per_problem(responses, score, correct) if c.any() and not c.all()]
        return float(np.mean(parts)) if parts else float("nan")


class StepAUC(ResponseMetric):
    """ROC AUC of step rewards: right steps against first wrong steps; steps after the first wrong one do not count."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("steps", "first_error", **kwargs)

    def value(self, responses: ResponseColumns) -> float:
        right, wrong = judged_steps(responses.valid, responses["first_error"])
        return auc(responses.steps[right], responses.steps[wrong])


class FirstErrorF1(ResponseMetric):
    """ProcessBench's F1 of the first step below a threshold.

    With ``threshold=None`` the problems are cut into two halves by a hash of their numbers, and each half is evaluated
    by the best threshold of the other half.
    """

    def __init__(self, threshold: float | None = None, **kwargs: Any) -> None:
        super().__init__("steps", "first_error", "problem", **kwargs)
        self.threshold = threshold

    def value(self, responses: ResponseColumns) -> float:
        steps, valid, truth = responses.steps, responses.valid, responses["first_error"]
        if self.threshold is None:
            return cross_fitted_f1(steps, valid, truth, responses["problem"])
        return f1(first_below(steps, valid, self.threshold), truth)
