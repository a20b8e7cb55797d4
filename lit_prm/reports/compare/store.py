"""Runs out of an MLflow store: by name, scale and seed, with their curves and their problems."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lit_prm.reports.compare.problems import Problems, read_problems
from lit_prm.reports.compare.runs import Curve, Experiment, Run

Told = Callable[[str], None]  # what a person should know about what was found

CURVES = ("train/loss", "train/auc", "rewards/accuracies", "rewards/margins")
_ACCURACY = re.compile(r"bon/([^/]+)/acc_at_(\d+)")
_FINISHED_NAMES = """
SELECT DISTINCT coalesce(scale.value, '?'), name.value FROM runs
JOIN tags AS name ON name.run_uuid = runs.run_uuid AND name.key = 'name'
LEFT JOIN tags AS scale ON scale.run_uuid = runs.run_uuid AND scale.key = 'scale'
WHERE runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'"""
_WAYS_OUT = "correct --uri or MLFLOW_TRACKING_URI, or go to the folder that holds mlflow.db"


class Store:
    """The runs of an MLflow store; reading changes nothing in it."""

    def __init__(self, uri: str | None = None) -> None:
        from lit_prm.storage.mlflow_logger import clear_error, database_of, store_uri  # seconds, as is mlflow

        self.uri = store_uri(uri)
        database = database_of(self.uri)
        if database is not None and not database.exists():
            raise ValueError(
                f"there is no MLflow store {database}; {_WAYS_OUT}, or record a run: make exp NAME=ce-1resp"
            )
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with clear_error(self.uri, _WAYS_OUT):
            from mlflow import MlflowClient

            self.client: Any = MlflowClient(self.uri)
            self._folders = [found.experiment_id for found in self.client.search_experiments()]

    def experiments(self, names: Iterable[str], scale: str, told: Told) -> list[Experiment]:
        """The latest finished run of every seed of ``names``, in that order; of all of the scale without names."""
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as progress:  # both take seconds
            finding = progress.add_task("finding runs", total=None)
            wanted = list(dict.fromkeys(names))
            found = self._runs(wanted, scale)
            wanted = wanted or sorted(found)
            missing = [name for name in wanted if not any(_finished(run) for run in found.get(name, []))]
            if missing or not wanted:
                raise ValueError(self._nothing(missing, scale, found))
            progress.remove_task(finding)
            return [self._experiment(n, found[n], told) for n in progress.track(wanted, description="reading runs")]

    def _experiment(self, name: str, runs: Sequence[Any], told: Told) -> Experiment:
        latest: dict[int, Any] = {}
        for run in runs:  # newest first
            if _finished(run):
                latest.setdefault(_seed(run), run)
        for run in runs:
            if not _finished(run):
                told(f"{name}, seed {_seed(run)}: a run that is {run.info.status} was left out ({run.info.run_id})")
        return Experiment(name, tuple(self._read(latest[seed], told) for seed in sorted(latest)))

    def _runs(self, names: Sequence[str], scale: str) -> dict[str, list[Any]]:
        """Name -> its runs, newest first; one query per name, since a run holds thousands of metrics."""
        found: dict[str, list[Any]] = {}
        for query in [f" and tags.name = {quoted(name)}" for name in names] or [""]:
            for run in self._search(f"tags.scale = {quoted(scale)}{query}"):
                if {"name", "seed"} <= run.data.tags.keys():
                    found.setdefault(run.data.tags["name"], []).append(run)
        return found

    def _search(self, query: str) -> Iterator[Any]:
        from lit_prm.storage.mlflow_logger import clear_error

        token = None
        while True:
            with clear_error(self.uri, _WAYS_OUT):
                page = self.client.search_runs(
                    self._folders, query, max_results=200, order_by=["start_time DESC"], page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    def _nothing(self, missing: Sequence[str], scale: str, found: Mapping[str, Sequence[Any]]) -> str:
        what = f"no finished run of {', '.join(missing)}" if missing else "no run"
        states = [
            f"{run.data.tags['name']} seed {_seed(run)} is {run.info.status}"
            for n in missing
            for run in found.get(n, [])
        ]
        known: dict[str, set[str]] = {}
        for of_scale, name in self._finished_names():
            known.setdefault(of_scale, set()).add(name)
        listed = "\n".join(f"  {s}: {' '.join(sorted(names))}" for s, names in sorted(known.items())) or "  nothing yet"
        return (
            f"{what} at scale {scale!r} in {self.uri}{' (' + '; '.join(states) + ')' if states else ''}; "
            f"it has\n{listed}\n{_how_to_make(missing[0] if missing else 'ce-1resp', scale)}"
        )

    def _finished_names(self) -> list[tuple[str, str]]:
        """(scale, name) of what finished; a database is asked for tags alone, since a search reads all metrics too."""
        from lit_prm.storage.mlflow_logger import database_of

        database = database_of(self.uri)
        if database is None:
            runs = self._search("tags.name LIKE '%' and attributes.status = 'FINISHED'")
            return [(run.data.tags.get("scale", "?"), run.data.tags["name"]) for run in runs]
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(_FINISHED_NAMES).fetchall()

    # --- one run ----------------------------------------------------------------------------------

    def _read(self, run: Any, told: Told) -> Run:
        name, seed, metrics = run.data.tags["name"], _seed(run), run.data.metrics
        problems, seconds = self._artifacts(run)
        if not problems:
            told(f"{name}, seed {seed}: no scores/*-problems.jsonl.gz is kept with the run; its own intervals are "
                 "shown and nothing is paired with it")  # fmt: skip
        return Run(
            id=run.info.run_id, name=name, seed=seed, params=run.data.params, metrics=metrics, tags=run.data.tags,
            ended=(run.info.end_time or run.info.start_time) / 1000, seconds=seconds, problems=problems,
            histories={key: curve for key in _curves(metrics) if len(curve := self._history(run, key)) > 1},
        )  # fmt: skip

    def _history(self, run: Any, key: str) -> Curve:
        points = self.client.get_metric_history(run.info.run_id, key)
        return sorted({point.step: point.value for point in points}.items())

    def _artifacts(self, run: Any) -> tuple[dict[str, Problems], float | None]:
        """The problems of every candidate set, and the seconds at work; empty and None where they were not kept."""
        from mlflow.artifacts import download_artifacts

        problems, seconds = dict[str, Problems](), None
        with TemporaryDirectory() as folder:
            for path in self._kept(run):
                place = f"{run.info.artifact_uri}/{path}"  # by run id MLflow would read all of the run again
                file = Path(download_artifacts(artifact_uri=place, dst_path=folder, tracking_uri=self.uri))
                if path == "summary.json":
                    seconds = json.loads(file.read_text()).get("timing", {}).get("wall_seconds")
                else:
                    problems[file.name.removesuffix("-problems.jsonl.gz")] = read_problems(file)
        return problems, seconds

    def _kept(self, run: Any) -> list[str]:
        from mlflow.artifacts import list_artifacts
        from mlflow.exceptions import MlflowException

        found = list[str]()
        for folder in ("", "scores/"):
            with suppress(OSError, MlflowException):  # a store whose files are elsewhere
                listed = list_artifacts(artifact_uri=f"{run.info.artifact_uri}/{folder}", tracking_uri=self.uri)
                found += [folder + a.path.rpartition("/")[2] for a in listed]
        return [path for path in found if path == "summary.json" or path.endswith("-problems.jsonl.gz")]


def _curves(metrics: Mapping[str, float]) -> list[str]:
    """What training is watched by: losses, and best of the most candidates of every set."""
    most: dict[str, int] = {}
    for match in filter(None, map(_ACCURACY.fullmatch, metrics)):
        most[match[1]] = max(int(match[2]), most.get(match[1], 0))
    return [key for key in CURVES if key in metrics] + [f"bon/{name}/acc_at_{n}" for name, n in most.items()]


def _finished(run: Any) -> bool:
    return bool(run.info.status == "FINISHED")


def _seed(run: Any) -> int:
    return int(run.data.tags["seed"])


def quoted(text: str) -> str:
    """A text in a search; MLflow has no escapes in it."""
    quote = "'" if "'" not in text else '"'
    return f"{quote}{text}{quote}"


def _how_to_make(name: str, scale: str) -> str:
    experiments = Path("experiments")
    if experiments.is_dir() and not (experiments / f"{name}.yaml").is_file():
        return f"{experiments}/ has no {name} either: python -m lit_prm list"
    return f"make one: make exp NAME={name} SCALE={scale}"
