"""The command `mlflow-upload`: sends the entries of a run that the MLflow store missed during an outage."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path


def main(args: Sequence[str]) -> None:
    """`mlflow-upload RUN`."""
    parser = argparse.ArgumentParser(prog="python -m lit_prm mlflow-upload", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run; the store is that of MLFLOW_TRACKING_URI")
    parser.add_argument("--tracking-uri", help="URI of another store")
    options = parser.parse_args(list(args))
    run, file = options.run / "mlflow-run-id", options.run / "mlflow-missed.jsonl"
    if not run.exists():
        raise ValueError(f"{run} does not exist, so this folder has no MLflow run. Give the folder of a recorded run.")
    if file.exists():
        sent, refused = _send(file, run.read_text().strip(), options.tracking_uri)
        print(f"{sent} entries of {options.run} sent" + (f", {refused} refused lines set aside" if refused else ""))
    else:
        print(f"The store has all entries of {options.run}.")


def _send(file: Path, run: str, tracking_uri: str | None) -> tuple[int, int]:
    """Numbers of entries that were sent and of lines that were refused and set aside."""
    from mlflow import MlflowClient

    from lit_prm.storage.mlflow_queue import Outbox
    from lit_prm.storage.mlflow_send import is_outage, send
    from lit_prm.storage.mlflow_store import clear_error, store_uri
    from lit_prm.storage.run_folder import hold

    uri = store_uri(tracking_uri)
    hold(file.parent)  # a training process would send the same entries
    with clear_error(uri, f"Start it, or name the store of run {run} with --tracking-uri. {file} is kept."):
        client = MlflowClient(uri)
        if client.get_run(run).info.lifecycle_stage != "active":  # the store would refuse every line
            raise ValueError(f"Run {run} was deleted in {uri}. Restore it there (mlflow runs restore). {file} is kept.")
        box = Outbox(file, partial(send, client, run), is_outage)
        if not box.flush():
            raise RuntimeError(f"The MLflow store {uri} became unreachable again. {file} is kept: try later.")
    return box.sent, box.refused
