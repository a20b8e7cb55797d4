"""The MLflow store beside the run folders: it alone has training curves, and a comparison is recorded in it.

A comparison is a parent run with the report, and a child for every run compared. A child refers to its run by the tag
``compared.run_id`` and repeats its headline metrics. The compared runs themselves do not change, so a run can be in
many comparisons. The same comparison made again goes into the same parent.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.tables import COST, METHODS, versus
from lit_prm.reports.runs import Curve, Experiment, Notice, Run
from lit_prm.storage.mlflow_logger import entity_name
from lit_prm.storage.mlflow_send import send
from lit_prm.storage.mlflow_store import clear_error, database_of, store_uri

CURVES = ("train/loss", "train/auc", "rewards/accuracies", "rewards/margins")
_ACCURACY = re.compile(r"bon/([^/]+)/acc@(\d+)")
_WAYS_OUT = "correct --uri or MLFLOW_TRACKING_URI, or go to the folder that holds mlflow.db"


class Store:
    """The runs of an MLflow store by the client's API; reading changes nothing in it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with clear_error(uri, _WAYS_OUT):
            from mlflow import MlflowClient

            self.client: Any = MlflowClient(uri)

    def experiment_of(self, run: Run) -> str | None:
        """The MLflow experiment that holds the run; None where the store does not have it."""
        from mlflow.exceptions import MlflowException

        with clear_error(self.uri, _WAYS_OUT):
            try:
                return str(self.client.get_run(run.mlflow_id).info.experiment_id)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def with_curves(self, experiment: Experiment, notice: Notice) -> Experiment:
        """The experiment with the training curves of all runs that the store has."""
        return replace(experiment, runs=tuple(self._with_curves(run, notice) for run in experiment.runs))

    def _with_curves(self, run: Run, notice: Notice) -> Run:
        if self.experiment_of(run) is None:
            notice(f"{run}: the MLflow store {self.uri} does not have this run, so its training curves are left out")
            return run
        curves: dict[str, Curve] = {}
        for key in _watched(run.metrics):
            points = {p.step: p.value for p in self.client.get_metric_history(run.mlflow_id, entity_name(key))}
            curves |= {key: sorted(points.items())} if len(points) > 1 else {}
        return replace(run, histories=curves)


def open_store(uri: str | None, notice: Notice) -> Store | None:
    """The store at ``uri``, else MLFLOW_TRACKING_URI, else `mlflow.db` here; a missing database is not made."""
    place = store_uri(uri)
    database = database_of(place)
    if database is not None and not database.exists():
        notice(f"There is no MLflow store {database}: training curves are left out, nothing is recorded; {_WAYS_OUT}.")
        return None
    return Store(place)


def _watched(metrics: Mapping[str, float]) -> list[str]:
    """The metrics that training is watched by: losses, and best of the most candidates of every set."""
    most: dict[str, int] = {}
    for match in filter(None, map(_ACCURACY.fullmatch, metrics)):
        most[match[1]] = max(int(match[2]), most.get(match[1], 0))
    return [key for key in CURVES if key in metrics] + [f"bon/{name}/acc@{n}" for name, n in most.items()]


KEY, ORIGINAL, _PARENT = "compare.key", "compared.run_id", "mlflow.parentRunId"


def record(store: Store, evidence: Evidence, scale: str, folder: Path, files: Sequence[Path]) -> str | None:
    """Record ``files`` of ``folder`` in the parent run and return its id; None where the store has none of the runs.

    Children of runs that are no longer compared are deleted.
    """
    every = [run for experiment in evidence.experiments.values() for run in experiment.runs]
    places = {run.mlflow_id: place for run in every if (place := store.experiment_of(run))}
    runs = [run for run in every if run.mlflow_id in places]
    if not runs:
        return None
    client, place = store.client, places[runs[0].mlflow_id]
    key = f"{scale}: {' '.join(evidence.names)}"[:5000]
    parent = _earlier(client, place, key) or _new(
        client, place, f"compare: {versus(evidence.names)}"[:250], {KEY: key, "compare.scale": scale}
    )
    client.update_run(parent, status="RUNNING")
    _log(client, parent, _headline(evidence))
    for file in files:
        within = file.relative_to(folder).parent
        client.log_artifact(parent, str(file), None if within == Path() else within.as_posix())
    _children(client, place, parent, runs, evidence)
    client.set_terminated(parent, "FINISHED")
    return parent


def _earlier(client: Any, place: str, key: str) -> str | None:
    quote = "'" if "'" not in key else '"'  # MLflow's searches have no escapes
    runs = client.search_runs([place], f"tags.`{KEY}` = {quote}{key}{quote}", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _new(client: Any, place: str, name: str, tags: Mapping[str, str]) -> str:
    return str(client.create_run(place, run_name=name, tags=dict(tags)).info.run_id)


def _children(client: Any, place: str, parent: str, runs: Sequence[Run], evidence: Evidence) -> None:
    there = {
        child.data.tags.get(ORIGINAL): child.info.run_id
        for child in client.search_runs([place], f"tags.`{_PARENT}` = '{parent}'", max_results=1000)
    }
    places = [(name, n) for name in evidence.sets for n in evidence.telling((name,))]
    keys = [COST, *(f"{method}/{name}/acc@{n}" for method in METHODS for name, n in places)]
    for run in runs:
        child = there.pop(run.mlflow_id, None) or _new(client, place, f"{run.name} {run.seed}", _tags(parent, run))
        _log(client, child, {k: run.metrics[k] for k in keys if k in run.metrics})
        client.set_terminated(child, "FINISHED")
    for gone in there.values():
        client.delete_run(gone)


def _tags(parent: str, run: Run) -> dict[str, str]:
    """Tags of a child; it has no ``name`` and ``scale``, so that nobody takes it for a run."""
    note = f"Run {run.mlflow_id} as a comparison saw it; the run itself has all its metrics and files."
    return {
        _PARENT: parent, ORIGINAL: run.mlflow_id, "compared.name": run.name, "compared.seed": str(run.seed),
        "mlflow.note.content": note,
    }  # fmt: skip


def _headline(evidence: Evidence) -> dict[str, float]:
    """Metrics `<experiment>/<set>/acc@N` with the ends of their intervals."""
    metrics: dict[str, float] = {}
    for name in evidence.names:
        for candidates in evidence.sets:
            for n in evidence.telling((candidates,)):
                if estimate := evidence.estimate(name, "bon", (candidates,), (n,)):
                    key = f"{name}/{candidates}/acc@{n}"
                    ends = {key: estimate.mean, f"{key}/low": estimate.low, f"{key}/high": estimate.high}
                    metrics |= {end: value / 100 for end, value in ends.items() if value == value}
    return metrics


def _log(client: Any, run: str, metrics: Mapping[str, float]) -> None:
    now = int(time.time() * 1000)
    send(client, run, {"metrics": [(entity_name(key), float(value), now, 0) for key, value in metrics.items()]})
