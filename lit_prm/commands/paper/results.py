"""Means over seeds of recorded runs and paired differences, with intervals over problems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from lit_prm.commands.paper.methods import TEXTS
from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.estimates import Key, Values, of_independent, shares
from lit_prm.reports.paper_numbers import COUNTS, GENERATORS
from lit_prm.reports.runs import Experiment, read_run


class Line(NamedTuple):
    """One curve of one experiment, by its name in ``scores/<set>-problems.jsonl.gz``; also `first_error/found` etc."""

    experiment: str
    curve: str = "bon/min"


class PaperResults:
    """The finished runs below ``folder`` (`runs/<scale>`) of seeds 0 ... ``seeds`` - 1, read at first use."""

    def __init__(self, folder: Path, seeds: int) -> None:
        self.folder = folder
        self.expected = tuple(range(seeds))
        self._experiments: dict[str, Experiment] = {}
        self._estimates: dict[tuple[Line, tuple[str, ...], tuple[int, ...]], Estimate | None] = {}
        recorded = [name for name in GENERATORS if any(folder.glob(f"*/seed-*/scores/{name}-problems.jsonl.gz"))]
        self.sets = tuple(recorded or GENERATORS)  # the paper's sets that a run was judged on; without runs all three

    def experiment(self, name: str) -> Experiment:
        """The finished runs of an experiment, by seed."""
        if name not in self._experiments:
            runs = (read_run(self.folder / name / f"seed-{seed}") for seed in self.expected)
            self._experiments[name] = Experiment(name, tuple(run for run in runs if run is not None))
        return self._experiments[name]

    def values(self, line: Line, candidates: str, counts: Sequence[int]) -> dict[Key, float]:
        """The line's value on every problem of every finished seed, as the mean over ``counts``."""
        return {
            (run.seed, problem): value
            for run in self.experiment(line.experiment).runs
            if candidates in run.problems
            for problem, value in run.problems[candidates].at(line.curve, counts)
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

    def shared(self, curve: str) -> Line:
        """A curve that depends on candidates and reference only, from the experiment with most seeds."""
        return Line(max(TEXTS["shared"], key=lambda name: len(self.experiment(name).runs)), curve)

    def missing(self, experiments: Sequence[str]) -> list[str]:
        """One line for every experiment without all its seeds."""
        have = {name: self.experiment(name).seeds for name in experiments}
        return [
            name if not seeds else f"{name} (only seeds {', '.join(map(str, seeds))})"
            for name, seeds in have.items()
            if len(seeds) < len(self.expected)
        ]


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
    recorded = [Estimate.recorded(run.metrics, key) for run in results.experiment(experiment).runs]
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
    under = {run.seed: run.metrics.get(key) for run in results.experiment(theirs).runs}
    over = {run.seed: run.metrics[key] for run in results.experiment(ours).runs if key in run.metrics}
    ratios = [value / below for seed, value in over.items() if (below := under.get(seed))]
    return Estimate(fmean(ratios), min(ratios), max(ratios)) if ratios else None
