"""The MLflow store beside the run folders: it alone has the training curves, and a comparison is recorded in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lit_prm.reports.compare.folders import Notice
from lit_prm.reports.runs import Curve, Experiment, Run

CURVES = ("train/loss", "train/auc", "rewards/accuracies", "rewards/margins")
_ACCURACY = re.compile(r"bon/([^/]+)/acc@(\d+)")
_WAYS_OUT = "correct --uri or MLFLOW_TRACKING_URI, or go to the folder that holds mlflow.db"


class Store:
    """The runs of an MLflow store by the client's API; reading changes nothing in it."""

    def __init__(self, uri: str) -> None:
        from lit_prm.storage.mlflow_logger import clear_error

        self.uri = uri
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with clear_error(uri, _WAYS_OUT):
            from mlflow import MlflowClient

            self.client: Any = MlflowClient(uri)

    def experiment_of(self, run: Run) -> str | None:
        """The MLflow experiment that holds the run; None where the store does not have it."""
        from mlflow.exceptions import MlflowException

        from lit_prm.storage.mlflow_logger import clear_error

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
        curves = {key: self._curve(run, key) for key in _watched(run.metrics)}
        return replace(run, histories={key: curve for key, curve in curves.items() if len(curve) > 1})

    def _curve(self, run: Run, key: str) -> Curve:
        from lit_prm.storage.mlflow_logger import entity_name

        points = self.client.get_metric_history(run.mlflow_id, entity_name(key))
        return sorted({point.step: point.value for point in points}.items())


def open_store(uri: str | None, notice: Notice) -> Store | None:
    """The store at ``uri``, else MLFLOW_TRACKING_URI, else `mlflow.db` here; a missing database is not made."""
    from lit_prm.storage.mlflow_logger import database_of, store_uri  # seconds, as is mlflow

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
