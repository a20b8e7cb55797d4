"""Recorded runs as values: what one seed was, read and found, and the seeds of one experiment together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from lit_prm.reports.compare.problems import Problems

Curve = Sequence[tuple[int, float]]  # (step, value)


@dataclass(frozen=True)
class Run:
    """One finished seed of an experiment, as MLflow holds it."""

    id: str
    name: str
    seed: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    ended: float = 0.0  # seconds since 1970
    seconds: float | None = None  # at work, over stops and restarts
    problems: Mapping[str, Problems] = field(default_factory=dict)  # candidate set -> its problems
    histories: Mapping[str, Curve] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """Role -> digest of the data it was read from."""
        return {key.removeprefix("data."): value for key, value in self.tags.items() if key.startswith("data.")}

    @property
    def versions(self) -> dict[str, str]:
        """Package -> version it ran with."""
        start = "version."
        return {key.removeprefix(start): value for key, value in self.tags.items() if key.startswith(start)}

    @property
    def commit(self) -> str:
        """The first characters of the commit, with a star where files differed from it; `?` when it is not known."""
        commit = self.tags.get("commit", "")
        known = commit[:8] if commit not in ("", "None") else "?"
        return known + ("*" if self.tags.get("dirty") == "True" else "")


@dataclass(frozen=True)
class Experiment:
    """The finished runs of one experiment at one scale, by seed."""

    name: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that finished."""
        return tuple(run.seed for run in self.runs)

    def values(self, metric: str) -> list[float]:
        """A metric in every seed that has it."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]

    def mean(self, metric: str) -> float | None:
        """Its mean over these seeds; None where none has it."""
        found = self.values(metric)
        return fmean(found) if found else None
