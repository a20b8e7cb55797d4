"""What recorded runs found: means over seeds and paired differences with intervals over problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from lit_prm.evaluation.intervals import bootstrap_interval
from lit_prm.reports.compare.estimates import Estimate, of_independent, shares
from lit_prm.reports.compare.problems import Problems, read_problems
from lit_prm.reports.paper_numbers import COUNTS, GENERATORS
from lit_prm.storage.run_files import read_record

Key = tuple[int, str]  # a problem of a seed's world
Values = Mapping[Key, float]


class Line(NamedTuple):
    """One curve of one experiment, by its name in ``scores/<set>-problems.jsonl.gz``; also `first_error/found` etc."""

    experiment: str
    curve: str = "bon/min"


class PaperResults:
    """The finished runs below ``folder`` (`runs/<scale>`) of seeds 0 ... ``seeds`` - 1, read when asked for."""

    def __init__(self, folder: Path, seeds: int) -> None:
        self.folder = folder
        self.expected = tuple(range(seeds))
        self._problems: dict[tuple[str, int, str], Problems | None] = {}
        self._seen: dict[tuple[str, int], Mapping[str, float] | None] = {}
        self._estimates: dict[tuple[Line, tuple[str, ...], tuple[int, ...]], Estimate | None] = {}
        self.sets = self._recorded_sets()

    def seeds(self, experiment: str) -> tuple[int, ...]:
        """The seeds that are finished."""
        return tuple(seed for seed in self.expected if self.metrics(experiment, seed) is not None)

    def metrics(self, experiment: str, seed: int) -> Mapping[str, float] | None:
        """What ``summary.json`` holds under "metrics"; None before the run has finished."""
        if (experiment, seed) not in self._seen:
            stored = read_record(self.folder / experiment / f"seed-{seed}" / "summary.json")
            self._seen[experiment, seed] = stored["metrics"] if stored.get("status") == "FINISHED" else None
        return self._seen[experiment, seed]

    def metric(self, experiment: str, key: str) -> list[float]:
        """A metric of ``summary.json`` in every finished seed that has it."""
        found = (self.metrics(experiment, seed) for seed in self.expected)
        return [metrics[key] for metrics in found if metrics is not None and key in metrics]

    def values(self, line: Line, candidates: str, counts: Sequence[int]) -> dict[Key, float]:
        """What the line says of every problem of every finished seed, as the mean over ``counts``."""
        found: dict[Key, float] = {}
        for seed in self.seeds(line.experiment):
            problems = self._read(line.experiment, seed, candidates)
            if problems is not None:
                found |= {(seed, key): value for key, value in problems.at(line.curve, counts)}
        return found

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
        """Of the same kind, of ours minus theirs on the same problems of the same seeds."""
        pairs = ((self.values(ours, s, counts), self.values(theirs, s, counts)) for s in sets or self.sets)
        return summary([{key: a[key] - b[key] for key in a if key in b} for a, b in pairs])

    def first_of(self, experiments: Sequence[str]) -> str:
        """The first experiment with most finished seeds: where what all runs share is read."""
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
        """Those of the paper's three that any run was judged on; all three before there is a run."""
        found = (name for name in GENERATORS if any(self.folder.glob(f"*/seed-*/scores/{name}-problems.jsonl.gz")))
        return tuple(found) or tuple(GENERATORS)

    def _read(self, experiment: str, seed: int, candidates: str) -> Problems | None:
        key = (experiment, seed, candidates)
        if key not in self._problems:
            scores = self.folder / experiment / f"seed-{seed}" / "scores"
            file = scores / f"{candidates}-problems.jsonl.gz"
            self._problems[key] = read_problems(file) if file.exists() else None
        return self._problems[key]


def summary(per_set: Sequence[Values]) -> Estimate | None:
    """The mean of the sets' means with a 95 % bootstrap interval over problems, times 100; None when a set is empty.

    Every problem stands for the share it has in that mean, all sets together: a problem that is in several
    sets is resampled with all of them, and sets of any size count alike.
    """
    if not per_set or not all(per_set):
        return None
    stood = shares(per_set)
    low, high = bootstrap_interval(np.array([stood[key] for key in sorted(stood)]))
    return Estimate(
        100 * fmean(map(fmean, (v.values() for v in per_set))), 100 * low, 100 * high, len({s for s, _ in stood})
    )


def of_metric(results: PaperResults, experiment: str, key: str) -> Estimate | None:
    """A metric with recorded ends, times 100: mean over seeds; its interval is that of a mean of independent seeds."""
    found, low, high = (results.metric(experiment, f"{key}{end}") for end in ("", "/low", "/high"))
    if not found or not len(found) == len(low) == len(high):
        return None
    return of_independent(found, low, high)


def metric_difference(results: PaperResults, ours: str, theirs: str, key: str) -> Estimate | None:
    """Of two such metrics as if judged on different problems: the interval is too wide rather than too narrow."""
    a, b = of_metric(results, ours, key), of_metric(results, theirs, key)
    if a is None or b is None:
        return None
    half = math.hypot(a.half, b.half)
    return Estimate(a.mean - b.mean, a.mean - b.mean - half, a.mean - b.mean + half, min(a.seeds, b.seeds))


def ratio(results: PaperResults, ours: str, theirs: str, key: str) -> Estimate | None:
    """How many times theirs ours is, of a metric seed by seed: mean, least and most."""
    seeds = [seed for seed in results.seeds(ours) if seed in results.seeds(theirs)]
    pairs = [(results.metrics(ours, seed), results.metrics(theirs, seed)) for seed in seeds]
    found = [a[key] / b[key] for a, b in pairs if a and b and key in a and b.get(key)]
    return Estimate(fmean(found), min(found), max(found), len(found)) if found else None
