"""Finished runs as values, read from their folders: what one seed was, read and measured; the seeds of an experiment.

A run's folder is `runs/<scale>/<experiment>/seed-<seed>`; ``RunRecord`` and ``BestOfN`` write what is read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from lit_prm.evaluation.rows import read_rows
from lit_prm.storage.flat import flatten
from lit_prm.storage.run_files import config_of, read_record

Curve = Sequence[tuple[int, float]]  # (step, value)
_PROBLEMS = "-problems.jsonl.gz"


@dataclass(frozen=True)
class Problems:
    """Every rule's accuracy on each of the P problems of a candidate set, at C numbers of candidates."""

    ids: tuple[str, ...]
    counts: tuple[int, ...]
    curves: Mapping[str, Any]  # name -> [P, C]

    def at(self, curve: str, counts: Sequence[int]) -> Iterator[tuple[str, float]]:
        """(problem, mean over ``counts``) wherever the curve is known; nothing when a count was not judged."""
        if curve in self.curves and set(counts) <= set(self.counts):
            means = self.curves[curve][:, [self.counts.index(n) for n in counts]].mean(1)
            yield from ((key, float(x)) for key, x in zip(self.ids, means, strict=True) if not math.isnan(x))

    def primary(self, method: str) -> str:
        """The curve that stands for ``method``: of ``bon`` and ``vote`` that of the run's primary aggregate."""
        return next((name for name in self.curves if name.partition("/")[0] == method), method)


def read_problems(file: Path) -> Problems:
    """A file `scores/<set>-problems.jsonl.gz`; the hit rates of first errors are the same at every N."""
    rows = read_rows(file)
    counts = tuple(rows[0]["counts"])
    curves = {name: np.array([row["curves"][name] for row in rows]) for name in rows[0]["curves"]}
    for rule in rows[0].get("first_error", {}):
        hits = np.array([row["first_error"][rule] for row in rows], dtype=float)  # None becomes nan
        curves[f"first_error/{rule}"] = np.repeat(hits[:, None], len(counts), 1)
    return Problems(tuple(str(row["problem"]) for row in rows), counts, curves)


@dataclass(frozen=True)
class Run:
    """One finished seed of an experiment."""

    name: str
    seed: int
    metrics: Mapping[str, float]
    problems: Mapping[str, Problems]  # candidate set -> its problems
    params: Mapping[str, Any] = field(default_factory=dict)  # dotted option -> value
    digests: Mapping[str, str] = field(default_factory=dict)  # role -> digest of the data file
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version
    commit: str | None = None
    dirty: bool = False  # files differed from the commit
    ended: float = 0.0  # seconds since 1970
    seconds: float | None = None  # at work, over stops and restarts
    mlflow_id: str = ""  # empty for a run without an MLflow record
    histories: Mapping[str, Curve] = field(default_factory=dict)  # metric -> its training curve

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"

    @property
    def code(self) -> str:
        """The first characters of the commit, with a star where files differed from it; `?` when it is not known."""
        return (self.commit[:8] if self.commit else "?") + ("*" if self.dirty else "")


def status(folder: Path) -> str | None:
    """How the run of ``folder`` ended; None before it has."""
    return read_record(folder / "summary.json").get("status")


def read_run(folder: Path) -> Run | None:
    """The run of ``folder`` as its files tell it; None unless it is finished."""
    summary = read_record(folder / "summary.json")
    if summary.get("status") != "FINISHED":
        return None
    config, run_id = folder / "config.yaml", folder / "mlflow-run-id"
    scores = sorted((folder / "scores").glob(f"*{_PROBLEMS}"))
    return Run(
        name=folder.parent.name,
        seed=int(folder.name.removeprefix("seed-")),
        metrics=summary["metrics"],
        problems={file.name.removesuffix(_PROBLEMS): read_problems(file) for file in scores},
        params=flatten(config_of(config, config.read_text())) if config.exists() else {},
        digests=read_record(folder / "data.json").get("digests", {}),
        versions=summary.get("versions", {}),
        commit=summary.get("commit"),
        dirty=bool(summary.get("dirty")),
        ended=(folder / "summary.json").stat().st_mtime,
        seconds=summary.get("timing", {}).get("wall_seconds"),
        mlflow_id=run_id.read_text().strip() if run_id.exists() else "",
    )


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
        """The mean of a metric over seeds; None where no seed has it."""
        values = self.values(metric)
        return fmean(values) if values else None
