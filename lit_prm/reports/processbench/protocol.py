"""The official protocol: one threshold, chosen on one subset, names the first wrong steps of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lit_prm.evaluation.discrimination import auc
from lit_prm.evaluation.first_error import (
    Floats,
    Hits,
    best_threshold,
    cross_fitted,
    first_below,
    interval,
    judged_steps,
    resampled_f1,
)
from lit_prm.reports.processbench.guesses import GUESSES, Guess
from lit_prm.reports.processbench.subset import READINGS, Labels, StepReading, StepScores, Subset


@dataclass(frozen=True)
class Found:
    """What one rule finds in one subset. The interval resamples problems and keeps the decisions."""

    hits: Hits
    samples: Floats  # F1 of resampled problems

    @classmethod
    def of(cls, hit: Floats, labels: Labels, seed: int) -> Found:
        return cls(Hits.of(hit, labels.first_error), resampled_f1(hit, *labels, seed=seed))

    def numbers(self) -> dict[str, float]:
        low, high = interval(self.samples)
        hits = self.hits
        return {
            "error_acc": hits.error_acc, "correct_acc": hits.correct_acc,
            "f1": hits.f1, "f1/low": low, "f1/high": high,
        }  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """One subset under one reading of its steps, by a threshold that came from elsewhere.

    ``oracle`` is what the subset's own best threshold would find, an upper bound and no result.
    ``cross_fitted`` replaces the number that is too good on the subset where the threshold was chosen:
    each half of its problems is judged by the best threshold of the other.
    """

    threshold: float
    found: Found
    oracle_threshold: float
    oracle: Hits
    auc: float  # right steps above first wrong ones, over all pairs
    auc_within: float  # the same, over pairs of one response, each response counting once
    chosen_here: bool = False
    cross_fitted: Found | None = None

    def numbers(self) -> dict[str, float | bool]:
        out: dict[str, float | bool] = {
            **self.found.numbers(), "threshold": self.threshold, "threshold_chosen_here": self.chosen_here,
            "oracle_f1": self.oracle.f1, "oracle_threshold": self.oracle_threshold,
            "step_auc": self.auc, "step_auc_within": self.auc_within,
        }  # fmt: skip
        if self.cross_fitted is not None:
            out |= {f"cross_fitted_{name}": value for name, value in self.cross_fitted.numbers().items()}
        return out


def choose_threshold(scores: StepScores, labels: Labels) -> float:
    """The threshold with the best F1 on the choosing subset, which is all it is given; nan when a kind is missing.

    Of all thresholds that differ there it is the lowest of the best.
    """
    return best_threshold(scores.values, scores.valid, labels.first_error)


def judge_subset(
    scores: StepScores, labels: Labels, threshold: float, *, chosen_here: bool = False, seed: int = 0
) -> Judged:
    """What a given threshold finds in a subset."""
    own = choose_threshold(scores, labels)
    return Judged(
        threshold=threshold,
        found=Found.of(_named(scores, labels, threshold), labels, seed),
        oracle_threshold=own,
        oracle=Hits.of(_named(scores, labels, own), labels.first_error),
        **_aucs(scores, labels),
        chosen_here=chosen_here,
        cross_fitted=cross_fitted_found(scores, labels, seed) if chosen_here else None,
    )


def cross_fitted_found(scores: StepScores, labels: Labels, seed: int = 0) -> Found | None:
    """Each half of a subset's problems by the best threshold of the other half; None where a half has none."""
    predicted = cross_fitted(scores.values, scores.valid, *labels)
    return None if predicted is None else Found.of(np.asarray(predicted == labels.first_error, float), labels, seed)


def _named(scores: StepScores, labels: Labels, threshold: float) -> Floats:
    return np.asarray(first_below(scores.values, scores.valid, threshold) == labels.first_error, dtype=float)


def _aucs(scores: StepScores, labels: Labels) -> dict[str, float]:
    right, wrong = judged_steps(scores.valid, labels.first_error)
    values = scores.values
    both = np.flatnonzero(wrong.any(1) & right.any(1))
    within = [auc(values[i][right[i]], values[i][wrong[i]]) for i in both]
    return {
        "auc": auc(values[right], values[wrong]),
        "auc_within": float(np.mean(within)) if within else float("nan"),
    }


@dataclass(frozen=True)
class SubsetResults:
    """Every reading and every guess on every subset, by name."""

    choose: str
    subsets: Mapping[str, Subset]
    judged: Mapping[str, Mapping[str, Judged]]  # reading -> subset
    guessed: Mapping[str, Mapping[str, Found]]  # guess -> subset


def judge(subsets: Sequence[Subset], choose: str, readings: Sequence[StepReading] = READINGS) -> SubsetResults:
    """All subsets by what is chosen on the one named ``choose``; readings the scorer does not give are left out."""
    by_name = {subset.name: subset for subset in subsets}
    if choose not in by_name:
        raise ValueError(f"the threshold is to be chosen on {choose!r}, which is none of {', '.join(by_name)}; add it")
    judged = {reading.name: _by_reading(by_name, choose, reading) for reading in readings}
    return SubsetResults(
        choose,
        by_name,
        {name: found for name, found in judged.items() if found},
        {guess.name: _by_guess(by_name, choose, guess) for guess in GUESSES},
    )


def _by_reading(subsets: Mapping[str, Subset], choose: str, reading: StepReading) -> dict[str, Judged]:
    scores = {name: found for name, subset in subsets.items() if (found := subset.scores(reading)) is not None}
    if choose not in scores:
        return {}
    threshold = choose_threshold(scores[choose], subsets[choose].labels)
    if np.isnan(threshold):
        raise ValueError(f"{choose} lacks wrong or right responses, so no threshold is best on it; choose on another")
    return {
        name: judge_subset(of, subsets[name].labels, threshold, chosen_here=name == choose, seed=seed)
        for seed, (name, of) in enumerate(scores.items())
    }


def _by_guess(subsets: Mapping[str, Subset], choose: str, guess: Guess) -> dict[str, Found]:
    fitted = guess.fitted(subsets[choose].labels.first_error)
    return {
        name: Found.of(fitted.hit(subset.labels.first_error, subset.sizes), subset.labels, seed)
        for seed, (name, subset) in enumerate(subsets.items())
    }


def average(found: Sequence[Found]) -> dict[str, float]:
    """The mean F1 over subsets, whose problems are resampled independently; nothing of no subset."""
    if not found:
        return {}
    low, high = interval(np.mean([f.samples for f in found], 0))
    return {"f1": float(np.mean([f.hits.f1 for f in found])), "f1/low": low, "f1/high": high}
