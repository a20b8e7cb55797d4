"""Do scores tell right from wrong responses, and step rewards right from wrong steps?"""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_prm.evaluation.discrimination import auc
from lit_prm.evaluation.first_error import cross_fitted_f1, f1, first_below, judged_steps
from lit_prm.evaluation.metrics.base import ResponseColumns, ResponseMetric, ScoreMetric, per_problem


class OutcomeAUC(ScoreMetric):
    """Share of (right, wrong) responses in the right order, ties half; pooled, or inside problems and averaged.

    Only the latter asks what selection asks: a reward is known up to a function of the prompt.
    """

    higher_is_better = True

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
    """Share of (right step, first wrong step) pairs in the right order; what follows an error is judged by nobody."""

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("steps", "first_error", **kwargs)

    def value(self, responses: ResponseColumns) -> float:
        right, wrong = judged_steps(responses.valid, responses["first_error"])
        return auc(responses.steps[right], responses.steps[wrong])


class FirstErrorF1(ResponseMetric):
    """ProcessBench's F1 of the first step below a threshold.

    With ``threshold=None`` each half of the problems, even and odd numbers, is judged by the best threshold of the
    other half, so none ever sees what it is judged on.
    """

    higher_is_better = True

    def __init__(self, threshold: float | None = None, **kwargs: Any) -> None:
        super().__init__("steps", "first_error", "problem", **kwargs)
        self.threshold = threshold

    def value(self, responses: ResponseColumns) -> float:
        steps, valid, truth = responses.steps, responses.valid, responses["first_error"]
        if self.threshold is None:
            return cross_fitted_f1(steps, valid, truth, responses["problem"])
        return f1(first_below(steps, valid, self.threshold), truth)
