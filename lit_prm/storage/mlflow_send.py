"""Sends entries of a run's record, which are JSON objects, to an MLflow store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_prm.storage.mlflow_queue import Entry, EntryRefused

# What the MLflow store accepts: entities per request, characters of a data set's digest.
_METRICS, _PARAMS, _DIGEST = 1000, 100, 36


def send(client: Any, run: str, entry: Entry) -> None:
    """Record one entry, whose first key is its kind. Recording an entry twice is harmless."""
    _SENDERS[next(iter(entry))](client, run, *entry.values())


def is_outage(error: Exception) -> bool:
    """Whether the error means that the store is unreachable, broken or busy, rather than that the entry is wrong."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    if isinstance(error, MlflowException):
        return _passes(error.get_http_status_code())
    if isinstance(error, RequestException):
        return error.response is None or _passes(error.response.status_code)
    return isinstance(error, ConnectionError | TimeoutError)


def _passes(status: int) -> bool:
    return status >= 500 or status in (408, 429)


def _metrics(client: Any, run: str, rows: Sequence[tuple[str, float, int, int]]) -> None:
    from mlflow.entities import Metric

    _in_parts(client, run, "metrics", [Metric(*row) for row in rows], _METRICS)


def _params(client: Any, run: str, named: Mapping[str, str]) -> None:
    """Recorded params keep their values."""
    from mlflow.entities import Param

    recorded = client.get_run(run).data.params
    _in_parts(client, run, "params", [Param(*pair) for pair in named.items() if pair[0] not in recorded], _PARAMS)


def _tags(client: Any, run: str, named: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    _in_parts(client, run, "tags", [RunTag(*pair) for pair in named.items()], _PARAMS)


def _in_parts(client: Any, run: str, kind: str, entities: Sequence[Any], size: int) -> None:
    for start in range(0, len(entities), size):
        client.log_batch(run, **{kind: entities[start : start + size]})


def _data(client: Any, run: str, digests: Mapping[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for role, digest in digests.items():
        context = InputTag("mlflow.data.context", "training" if role == "train" else "evaluation")
        source = json.dumps({"sha256": digest})
        inputs.append(DatasetInput(Dataset(role, digest[:_DIGEST], "sha256", source), [context]))
    client.log_inputs(run, inputs)


def _files(client: Any, run: str, path: str) -> None:
    """Upload files; raises EntryRefused for a full disk or a file too large for the store: training goes on."""
    try:
        if Path(path).is_dir():
            client.log_artifacts(run, path, Path(path).name)
        else:
            client.log_artifact(run, path)
    except OSError as error:  # includes HTTP errors
        if is_outage(error):
            raise
        raise EntryRefused(f"{path}: {error}") from error


def _status(client: Any, run: str, status: str, ended: int | None) -> None:
    if ended is None:
        client.update_run(run, status=status)
    else:
        client.set_terminated(run, status, ended)


_SENDERS: dict[str, Callable[..., None]] = {
    "metrics": _metrics, "params": _params, "tags": _tags, "data": _data, "files": _files, "status": _status,
}  # fmt: skip
