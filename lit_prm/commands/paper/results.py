"""Means over seeds of recorded runs and paired differences, with intervals over problems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.estimates import Key, Values, of_independent, shares
from lit_prm.reports.paper_numbers import COUNTS, GENERATORS
from lit_prm.reports.runs import Run, read_run


class Line(NamedTuple):
    """One curve of one experiment, by its name in ``scores/<set>-problems.jsonl.gz``; also `first_error/found` etc."""

    experiment: str
    curve: str = "bon/min"


class PaperResults:
    """The finished runs below ``folder`` (`runs/<scale>`) of seeds 0 ... ``seeds`` - 1, read at first use."""

    def __init__(self, folder: Path, seeds: int) -> None:
        self.folder = folder
        self.expected = tuple(range(seeds))
        self._runs: dict[tuple[str, int], Run | None] = {}
        self._estimates: dict[tuple[Line, tuple[str, ...], tuple[int, ...]], Estimate | None] = {}
        self.sets = self._recorded_sets()

    def run(self, experiment: str, seed: int) -> Run | None:
        """The finished run of a seed; None before it has finished."""
        if (experiment, seed) not in self._runs:
            self._runs[experiment, seed] = read_run(self.folder / experiment / f"seed-{seed}")
        return self._runs[experiment, seed]

    def runs(self, experiment: str) -> list[Run]:
        """The finished runs of an experiment, by seed."""
        return [run for seed in self.expected if (run := self.run(experiment, seed)) is not None]

    def seeds(self, experiment: str) -> tuple[int, ...]:
        """The seeds that are finished."""
        return tuple(run.seed for run in self.runs(experiment))

    def metric(self, experiment: str, key: str) -> list[float]:
        """A metric in every finished seed that has it."""
        return [run.metrics[key] for run in self.runs(experiment) if key in run.metrics]

    def values(self, line: Line, candidates: str, counts: Sequence[int]) -> dict[Key, float]:
        """The line's value on every problem of every finished seed, as the mean over ``counts``."""
        problems = {run.seed: run.problems.get(candidates) for run in self.runs(line.experiment)}
        return {
            (seed, problem): value
            for seed, of_seed in problems.items()
            if of_seed is not None
            for problem, value in of_seed.at(line.curve, counts)
        }

    def estimate(
        self, line: Line, sets: Sequence[str] | None = None, counts: Sequence[int] = COUNTS
    ) -> Estimate | None:
        """Mean over sets, N and problems; None unless every set has values."""
        key = (line, tuple(sets or self.sets), tuple(counts))
        if key not in self._estimates:
            self._estimates[key] = summary([self.values(line, name, counts) for name in key[1]])
        return self._estimates[key]

    def difference(
        self, ours: Line, theirs: Line, sets: Sequence[str] | None = None, counts: Sequence[int] = COUNTS
    ) -> Estimate | None:
        """Ours minus theirs on the same problems of the same seeds, as ``estimate`` makes it."""
        pairs = ((self.values(ours, s, counts), self.values(theirs, s, counts)) for s in sets or self.sets)
        return summary([{key: a[key] - b[key] for key in a if key in b} for a, b in pairs])

    def first_of(self, experiments: Sequence[str]) -> str:
        """The experiment with most finished seeds, the first of equals."""
        return max(experiments, key=lambda name: len(self.seeds(name)))

    def missing(self, experiments: Sequence[str]) -> list[str]:
        """One line for every experiment without all its seeds."""
        have = {name: self.seeds(name) for name in experiments}
        return [
            name if not seeds else f"{name} (only seeds {', '.join(map(str, seeds))})"
            for name, seeds in have.items()
            if len(seeds) < len(self.expected)
        ]

    def _recorded_sets(self) -> tuple[str, ...]:
        """The paper's candidate sets that any run was judged on; all three if there is no run."""
        recorded = (name for name in GENERATORS if any(self.folder.glob(f"*/seed-*/scores/{name}-problems.jsonl.gz")))
        return tuple(recorded) or tuple(GENERATORS)


def summary(per_set: Sequence[Values]) -> Estimate | None:
    """The mean of the sets' means with a 95 % bootstrap interval over problems, in percent; None when a set is empty.

    The bootstrap resamples each problem's contribution to that mean (``shares``): a problem that is in several sets is
    resampled with all of them, and sets of any size count alike.
    """
    if not per_set or not all(per_set):
        return None
    contributions = shares(per_set)
    return Estimate.of([contributions[key] for key in sorted(contributions)]).scaled()


def of_metric(results: PaperResults, experiment: str, key: str) -> Estimate | None:
    """A metric with recorded ends, in percent: the mean over seeds, whose interval takes seeds as independent."""
    recorded = [Estimate.recorded(run.metrics, key) for run in results.runs(experiment)]
    per_seed = [estimate for estimate in recorded if estimate is not None]
    if not per_seed or any(math.isnan(estimate.half) for estimate in per_seed):
        return None
    return of_independent(per_seed).scaled()


def metric_difference(results: PaperResults, ours: str, theirs: str, key: str) -> Estimate | None:
    """Difference of two such metrics as if judged on different problems; of the same ones the interval is too wide."""
    a, b = of_metric(results, ours, key), of_metric(results, theirs, key)
    if a is None or b is None:
        return None
    half = math.hypot(a.half, b.half)
    return Estimate(a.mean - b.mean, a.mean - b.mean - half, a.mean - b.mean + half)


def ratio(results: PaperResults, ours: str, theirs: str, key: str) -> Estimate | None:
    """Ours divided by theirs, of a metric, seed by seed: the mean, and as ends the least and the greatest ratio."""
    pairs = [(run, results.run(theirs, run.seed)) for run in results.runs(ours)]
    ratios = [a.metrics[key] / b.metrics[key] for a, b in pairs if b and key in a.metrics and b.metrics.get(key)]
    return Estimate(fmean(ratios), min(ratios), max(ratios)) if ratios else None
