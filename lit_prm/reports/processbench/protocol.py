"""ProcessBench's protocol: one threshold, chosen on one subset, judges all; and where the lowest steps lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lit_prm.evaluation import first_error
from lit_prm.evaluation.discrimination import auc
from lit_prm.evaluation.first_error import Floats, Hits, Ints, Known
from lit_prm.evaluation.intervals import interval
from lit_prm.reports.processbench.guesses import GUESSES, Guess
from lit_prm.reports.processbench.subset import READINGS, StepReading, StepScores, Subset


@dataclass(frozen=True)
class FirstErrorResult:
    """How well the predicted first errors of one subset match the labels.

    The interval of F1 resamples problems; predictions and threshold stay fixed.
    """

    hits: Hits
    samples: Floats  # F1 of resampled problems

    @classmethod
    def of(cls, hit: Floats, labels: Known, seed: int) -> FirstErrorResult:
        samples = first_error.resampled_f1(hit, labels.first_error, labels.problem, seed)
        return cls(Hits.of(hit, labels.first_error), samples)

    def numbers(self) -> dict[str, float]:
        low, high = interval(self.samples)
        hits = self.hits
        return {
            "error_acc": hits.error_acc, "correct_acc": hits.correct_acc,
            "f1": hits.f1, "f1/low": low, "f1/high": high,
        }  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """One subset under one reading of its steps, judged by a given threshold.

    ``oracle`` is the result of the subset's own best threshold: an upper bound, no result to report. On the subset
    where the threshold was chosen F1 is too good; there ``cross_fitted`` judges each half of the problems by the best
    threshold of the other half.
    """

    threshold: float
    result: FirstErrorResult
    oracle_threshold: float
    oracle: Hits
    auc: float  # right steps above first wrong ones, over all pairs
    auc_within: float  # the same, over pairs of one response, each response counting once
    chosen_here: bool = False
    cross_fitted: FirstErrorResult | None = None
    fixed: FirstErrorResult | None = None

    def numbers(self) -> dict[str, float | bool]:
        out: dict[str, float | bool] = {
            **self.result.numbers(), "threshold": self.threshold, "threshold_chosen_here": self.chosen_here,
            "oracle_f1": self.oracle.f1, "oracle_threshold": self.oracle_threshold,
            "step_auc": self.auc, "step_auc_within": self.auc_within,
        }  # fmt: skip
        for prefix, of in (("cross_fitted", self.cross_fitted), ("fixed", self.fixed)):
            out |= {f"{prefix}_{name}": value for name, value in (of.numbers() if of else {}).items()}
        return out


def choose_threshold(scores: StepScores, labels: Known) -> float:
    """The lowest threshold with the best F1 on this subset alone; nan without right or without wrong responses."""
    return first_error.best_threshold(scores.values, scores.valid, labels.first_error)


def judge_subset(
    scores: StepScores,
    labels: Known,
    threshold: float,
    *,
    chosen_here: bool = False,
    fixed: float | None = None,
    seed: int = 0,
) -> Judged:
    """Judge a subset by a threshold, ``chosen_here`` if it was chosen on this subset, and by ``fixed`` if given."""
    own = choose_threshold(scores, labels)
    halves = None
    if chosen_here:
        halves = first_error.cross_fitted(scores.values, scores.valid, labels.first_error, labels.problem)
    by_own = first_error.first_below(scores.values, scores.valid, own)

    def by(cut: float) -> FirstErrorResult:
        return _result(first_error.first_below(scores.values, scores.valid, cut), labels, seed)

    return Judged(
        threshold=threshold,
        result=by(threshold),
        oracle_threshold=own,
        oracle=Hits.of(by_own == labels.first_error, labels.first_error),
        **_aucs(scores, labels),
        chosen_here=chosen_here,
        cross_fitted=None if halves is None else _result(halves, labels, seed),
        fixed=None if fixed is None else by(fixed),
    )


def _result(predicted: Ints, labels: Known, seed: int) -> FirstErrorResult:
    return FirstErrorResult.of(np.asarray(predicted == labels.first_error, dtype=float), labels, seed)


def _aucs(scores: StepScores, labels: Known) -> dict[str, float]:
    right, wrong = first_error.judged_steps(scores.valid, labels.first_error)
    values = scores.values
    both = np.flatnonzero(wrong.any(1) & right.any(1))
    within = [auc(values[i][right[i]], values[i][wrong[i]]) for i in both]
    return {"auc": auc(values[right], values[wrong]), "auc_within": _mean(np.array(within))}


@dataclass(frozen=True)
class SubsetResults:
    """Results of every reading and every guess on every subset, by name."""

    choose: str
    subsets: Mapping[str, Subset]
    judged: Mapping[str, Mapping[str, Judged]]  # reading -> subset
    guessed: Mapping[str, Mapping[str, FirstErrorResult]]  # guess -> subset


def judge(
    subsets: Sequence[Subset], choose: str, readings: Sequence[StepReading] = READINGS, *, fixed: float | None = None
) -> SubsetResults:
    """Judge all subsets by thresholds chosen on the subset ``choose``; readings that the scorer lacks are left out.

    ``fixed`` is a second threshold, the same for all readings of the trained model.
    """
    by_name = {subset.name: subset for subset in subsets}
    if choose not in by_name:
        raise ValueError(
            f"The threshold is to be chosen on {choose!r}, which is none of {', '.join(by_name)}. Add that subset."
        )
    judged = {reading.name: of for reading in readings if (of := _by_reading(by_name, choose, reading, fixed))}
    guessed = {guess.name: _by_guess(by_name, choose, guess) for guess in GUESSES}
    return SubsetResults(choose, by_name, judged, guessed)


def _by_reading(
    subsets: Mapping[str, Subset], choose: str, reading: StepReading, fixed: float | None
) -> dict[str, Judged]:
    every = {name: subset.scores(reading) for name, subset in subsets.items()}
    scores = {name: of_subset for name, of_subset in every.items() if of_subset is not None}
    if choose not in scores:
        return {}
    threshold = choose_threshold(scores[choose], subsets[choose].labels)
    if np.isnan(threshold):
        raise ValueError(
            f"{choose} has no wrong or no right responses, so no threshold is best on it. Choose on another subset."
        )
    given = fixed if reading.trained else None
    return {
        name: judge_subset(of, subsets[name].labels, threshold, chosen_here=name == choose, fixed=given, seed=seed)
        for seed, (name, of) in enumerate(scores.items())
    }


def _by_guess(subsets: Mapping[str, Subset], choose: str, guess: Guess) -> dict[str, FirstErrorResult]:
    fitted = guess.fitted(subsets[choose].labels.first_error)
    return {
        name: FirstErrorResult.of(fitted.hit(subset.labels.first_error, subset.sizes), subset.labels, seed)
        for seed, (name, subset) in enumerate(subsets.items())
    }


def average(results: Sequence[FirstErrorResult]) -> dict[str, float]:
    """The mean F1 over subsets, whose problems are resampled independently; empty without subsets."""
    if not results:
        return {}
    low, high = interval(np.mean([r.samples for r in results], 0))
    return {"f1": float(np.mean([r.hits.f1 for r in results])), "f1/low": low, "f1/high": high}


class Minimum(NamedTuple):
    """Shares of responses whose lowest step lies there; equal lowest steps share one. nan if no response counts.

    The fields ``*_chance`` hold the same share for a step drawn at random.
    """

    in_last: float  # in the last step
    in_last_chance: float
    position: float  # mean place from 0, the first step, to 1, the last, of responses with two steps or more
    at_error: float  # among wrong responses: in the first wrong step
    at_error_chance: float


def minimum(scores: StepScores, labels: Known) -> Minimum:
    """Positions of the lowest step, over responses in which a step has a score; an outcome reward has it at the end."""
    some = scores.valid.any(1)
    share = first_error.lowest_share(scores.values, scores.valid)[some]
    sizes, error = scores.sizes[some], labels.first_error[some]
    rows, last = np.arange(len(sizes)), sizes - 1
    wrong, long = error >= 0, sizes > 1
    place = (share * np.arange(share.shape[1])).sum(1) / np.maximum(last, 1)
    return Minimum(
        in_last=_mean(share[rows, last]),
        in_last_chance=_mean(1 / sizes),
        position=_mean(place[long]),
        at_error=_mean(share[rows[wrong], error[wrong]]),
        at_error_chance=_mean(1 / sizes[wrong]),
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
