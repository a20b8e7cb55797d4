"""The command `mlflow-upload`: sends an MLflow store what it missed of a run while it was away."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path


def main(args: Sequence[str]) -> None:
    """`mlflow-upload RUN`."""
    parser = argparse.ArgumentParser(prog="python -m lit_prm mlflow-upload", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="a run's folder; the store is the one of MLFLOW_TRACKING_URI")
    parser.add_argument("--tracking-uri", help="another store")
    asked = parser.parse_args(list(args))
    run, file = asked.run / "mlflow-run-id", asked.run / "mlflow-missed.jsonl"
    if not run.exists():
        raise ValueError(f"{run} does not exist, so MLflow knows no run of this folder; give a run's folder")
    if file.exists():
        sent, refused = _send(file, run.read_text().strip(), asked.tracking_uri)
        print(f"{sent} entries of {asked.run} sent" + (f", {refused} lines were none" if refused else ""))
    else:
        print(f"the store missed nothing of {asked.run}")


def _send(file: Path, run: str, named: str | None) -> tuple[int, int]:
    """How many entries the store has now and the file no longer, and how many lines were set aside."""
    from mlflow import MlflowClient

    from lit_prm.storage.mlflow_logger import clear_error, store_uri
    from lit_prm.storage.mlflow_queue import Outbox
    from lit_prm.storage.mlflow_send import is_outage, send
    from lit_prm.storage.run_folder import hold

    uri = store_uri(named)
    hold(file.parent)  # a run at work sends by itself
    with clear_error(uri, f"start it, or name the one that has run {run}: --tracking-uri; {file} is kept"):
        client = MlflowClient(uri)
        if client.get_run(run).info.lifecycle_stage != "active":  # it would refuse every line
            raise ValueError(f"run {run} was deleted in {uri}; restore it there (mlflow runs restore); {file} is kept")
        box = Outbox(file, partial(send, client, run), is_outage)
        if not box.flush():
            raise RuntimeError(f"the MLflow store {uri} went away again; {file} is kept, so try later")
    return box.sent, box.refused
