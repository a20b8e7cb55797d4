"""Finished runs as values, read from their folders: what one seed was, read and measured; the seeds of an experiment.

A run's folder is `runs/<scale>/<experiment>/seed-<seed>`; ``RunRecord`` and ``BestOfN`` write what is read here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from lit_prm.evaluation.rows import read_rows
from lit_prm.storage.run_files import config_of, flatten, read_record, status
from lit_prm.storage.schemas import refuse_damaged

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
    with _intact(file):
        rows = read_rows(file)
        counts = tuple(rows[0]["counts"])
        curves = {name: np.array([row["curves"][name] for row in rows]) for name in rows[0]["curves"]}
        for rule in rows[0].get("first_error", {}):
            hits = np.array([row["first_error"][rule] for row in rows], dtype=float)  # None becomes nan
            curves[f"first_error/{rule}"] = np.repeat(hits[:, None], len(counts), 1)
        return Problems(tuple(str(row["problem"]) for row in rows), counts, curves)


@contextmanager
def _intact(file: Path) -> Iterator[None]:
    """Raise ValueError with the file's name if the block finds it damaged, or not as a run writes it."""
    try:
        yield
    except (AttributeError, EOFError, LookupError, OSError, TypeError, ValueError, zlib.error) as error:
        refuse_damaged(file, f"{type(error).__name__}: {error}", "restore it, or remove the run's folder")


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


def read_run(folder: Path) -> Run | None:
    """The run of ``folder`` as its files tell it; None unless it is finished."""
    summary = read_record(folder / "summary.json")
    if summary.get("status") != "FINISHED":
        return None
    with _intact(folder / "summary.json"):
        metrics = summary["metrics"]
    config, run_id = folder / "config.yaml", folder / "mlflow-run-id"
    scores = sorted((folder / "scores").glob(f"*{_PROBLEMS}"))
    return Run(
        name=folder.parent.name,
        seed=int(folder.name.removeprefix("seed-")),
        metrics=metrics,
        problems={file.name.removesuffix(_PROBLEMS): read_problems(file) for file in scores},
        params=flatten(config_of(config)) if config.exists() else {},
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


Notice = Callable[[str], None]  # takes a sentence that the reader of the comparison should see


def read_experiments(runs: Path, scale: str, names: Iterable[str], notice: Notice) -> list[Experiment]:
    """The finished runs of ``names`` below `<runs>/<scale>`, in that order; of all experiments without names."""
    from rich.console import Console
    from rich.progress import Progress

    folders = _folders(runs / scale)
    finished = [name for name, of in folders.items() if any(status(folder) == "FINISHED" for folder in of)]
    wanted = list(dict.fromkeys(names)) or finished
    missing = [name for name in wanted if name not in finished]
    if missing or not wanted:
        raise ValueError(_nothing(runs, scale, missing))
    with Progress(console=Console(stderr=True), transient=True) as bar:  # gone before an error is shown
        shown = bar.track(wanted, description="reading runs")
        return [Experiment(name, tuple(_finished(folders[name], notice))) for name in shown]


def _folders(scale: Path) -> dict[str, list[Path]]:
    """Experiment -> the folders of its seeds, ascending; both by name."""
    seeds: dict[str, list[Path]] = {}
    for folder in scale.glob("*/seed-*/"):
        if folder.name.removeprefix("seed-").isdecimal():
            seeds.setdefault(folder.parent.name, []).append(folder)
    return {name: sorted(seeds[name], key=lambda f: int(f.name.removeprefix("seed-"))) for name in sorted(seeds)}


def _finished(folders: Sequence[Path], notice: Notice) -> list[Run]:
    runs = []
    for folder in folders:
        run = read_run(folder)
        if run is None:
            notice(f"{folder}: this run was left out because it is {status(folder) or 'not finished'}")
            continue
        if not run.problems:
            notice(f"{run}: the folder has no scores/*-problems.jsonl.gz, so the run is shown with its own intervals "
                   "and is paired with no other")  # fmt: skip
        runs.append(run)
    return runs


def _nothing(runs: Path, scale: str, missing: Sequence[str]) -> str:
    what = f"no finished run of {', '.join(missing)}" if missing else "no run"
    of_scale = _folders(runs / scale)
    states = [f"{f} is {status(f) or 'not finished'}" for name in missing for f in of_scale.get(name, [])]
    finished = {
        folder.name: [n for n, of in _folders(folder).items() if any(status(f) == "FINISHED" for f in of)]
        for folder in sorted(runs.glob("*/"))
    }
    listed = "\n".join(f"  {s}: {' '.join(names)}" for s, names in finished.items() if names) or "  nothing yet"
    return (
        f"{what} at scale {scale!r} in {runs}{' (' + '; '.join(states) + ')' if states else ''}; "
        f"it has\n{listed}\n{_how_to_make(missing[0] if missing else 'ce-1resp', scale)}"
    )


def _how_to_make(name: str, scale: str) -> str:
    experiments = Path("experiments")
    if experiments.is_dir() and not (experiments / f"{name}.yaml").is_file():
        return f"{experiments}/ has no {name} either: python -m lit_prm list"
    return f"make one: make exp NAME={name} SCALE={scale}"
