"""Means and paired differences of compared experiments, from their problems wherever these were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.estimates import Difference, Key, Resamples, Values, holm, of_independent, shares
from lit_prm.reports.run_tables import judged_counts
from lit_prm.reports.runs import Experiment, Run

Sets = tuple[str, ...]


class Evidence:
    """Estimates of experiments side by side; the methods ``bon`` and ``vote`` use each run's primary aggregate."""

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        self.experiments = {e.name: e for e in experiments}
        self.names = tuple(self.experiments)
        runs = [run for e in experiments for run in e.runs]
        self.sets: Sets = tuple(dict.fromkeys(name for run in runs for name in _judged(run)))
        self._resamples: dict[tuple[tuple[Key, ...], tuple[tuple[int, str], ...]], Resamples] = {}

    def counts(self, sets: Sets) -> tuple[int, ...]:
        """The numbers of candidates N that all runs judged on these sets have in common, ascending."""
        runs = [run for e in self.experiments.values() for run in e.runs]
        per_run = [counts for run in runs for name in sets if (counts := _counts(run, name))]
        return tuple(sorted(set.intersection(*per_run))) if per_run else ()

    def telling(self, sets: Sets) -> tuple[int, ...]:
        """4, 16 and the largest number of candidates."""
        counts = self.counts(sets)
        return tuple(n for n in counts if n in (4, 16) or n == counts[-1])

    def values(self, name: str, method: str, sets: Sets, counts: Sequence[int]) -> dict[Key, float]:
        """Each problem's contribution to the mean over sets and N, from seeds that kept the problems of all sets."""
        values: dict[Key, float] = {}
        for run in self.experiments[name].runs:
            kept = [run.problems[s] for s in sets if s in run.problems]
            per_set = [dict(problems.at(problems.primary(method), counts)) for problems in kept]
            if len(per_set) == len(sets) and all(per_set):
                values |= {(run.seed, problem): x for problem, x in shares(per_set).items()}
        return values

    def estimate(self, name: str, method: str, sets: Sets, counts: Sequence[int]) -> Estimate | None:
        """The mean with its interval over seeds and problems; without problems the interval that the runs recorded."""
        values = self.values(name, method, sets, counts)
        if values:
            return self._estimate(values, self._worlds(name, sets)).estimate
        if len(sets) == len(counts) == 1:
            return self.of_metric(name, f"{method}/{sets[0]}/acc@{counts[0]}")
        return None

    def of_metric(self, name: str, key: str) -> Estimate | None:
        """Mean over seeds, in percent, of a metric `<kind>/<set>/<name>` that every seed recorded with its interval."""
        recorded = {run.seed: Estimate.recorded(run.metrics, key) for run in self.experiments[name].runs}
        per_seed = {seed: estimate for seed, estimate in recorded.items() if estimate is not None}
        if not per_seed:
            return None
        worlds = self._worlds(name, (key.split("/")[1],))
        return of_independent(list(per_seed.values()), [worlds.get(s, f"seed {s}") for s in per_seed]).scaled()

    def difference(self, ours: str, theirs: str, method: str, sets: Sets, counts: Sequence[int]) -> Difference | None:
        """Ours minus theirs on the same problems of the same seeds; None without common problems."""
        a, b = (self.values(name, method, sets, counts) for name in (ours, theirs))
        worlds, others = self._worlds(ours, sets), self._worlds(theirs, sets)
        same = {seed for seed, digest in worlds.items() if digest and others.get(seed) == digest}
        paired = {key: a[key] - b[key] for key in a if key in b and key[0] in same}
        return self._estimate(paired, worlds) if paired else None

    def pairs(self, method: str, sets: Sets, counts: Sequence[int]) -> dict[tuple[str, str], Difference]:
        """(ours, theirs) -> ours minus theirs, where problems are common; p values are corrected as one family."""
        found = {
            (ours, theirs): difference
            for theirs, ours in combinations(self.names, 2)
            if (difference := self.difference(ours, theirs, method, sets, counts))
        }
        corrected = holm([difference.p for difference in found.values()])
        return {pair: d._replace(p=p) for (pair, d), p in zip(found.items(), corrected, strict=True)}

    def _estimate(self, values: Values, worlds: Mapping[int, str]) -> Difference:
        key = tuple(values), tuple(sorted(worlds.items()))
        if key not in self._resamples:
            self._resamples[key] = Resamples(key[0], worlds)
        return self._resamples[key].estimate(values)

    def _worlds(self, name: str, sets: Sets) -> dict[int, str]:
        """Seed -> digests of the data it was judged on; seeds without digests are left out."""
        runs = ((run.seed, [run.digests.get(s) for s in sets]) for run in self.experiments[name].runs)
        return {seed: " ".join(map(str, digests)) for seed, digests in runs if all(digests)}


def _judged(run: Run) -> list[str]:
    recorded = [key.split("/")[1] for key in run.metrics if key.startswith("majority/")]
    return list(dict.fromkeys([*run.problems, *recorded]))


def _counts(run: Run, name: str) -> set[int]:
    if name in run.problems:
        return set(run.problems[name].counts)
    return set(judged_counts(name, run.metrics))
