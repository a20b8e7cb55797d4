"""MLflow logger: needs no set-up, continues the MLflow run of a folder, and records how the run ended."""

from __future__ import annotations

import posixpath
import re
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_prm.storage.atomic import write_text
from lit_prm.storage.mlflow_queue import Outbox
from lit_prm.storage.mlflow_send import is_outage, send
from lit_prm.storage.mlflow_store import clear_error, database_of, ready_database, store_uri
from lit_prm.storage.run_files import flatten

# Characters per value that the MLflow store accepts.
_NAME, _PARAM_VALUE, _TAG_VALUE = 250, 6000, 8000

_WAYS_OUT = (
    "Start the server or correct MLFLOW_TRACKING_URI. Or unset it to record in ./mlflow.db. Or train without a record: "
    "--trainer.logger false"
)


class MLflow(MLFlowLogger):
    """Records one MLflow run per run folder, also if training is stopped and started again.

    The store is ``tracking_uri``, else MLFLOW_TRACKING_URI, else ``mlflow.db`` in the working directory. The run is
    RUNNING while a process works on it. It ends as FINISHED, FAILED (an exception) or KILLED (Ctrl-C, SIGTERM). A run
    that SIGKILL ends stays RUNNING until it is started again.

    A store that cannot be opened is an error. If the store fails later, training continues: entries are kept in
    ``<folder>/mlflow-missed.jsonl`` and sent when the store is back, during the run, at its next start, or by
    ``python -m lit_prm mlflow-upload FOLDER``.
    """

    def __init__(
        self, folder: str, run_name: str, experiment: str = "lit_prm", tracking_uri: str | None = None
    ) -> None:
        # The parent's constructor opens the store (seconds, or an error): called at the first use.
        self._folder = Path(folder)
        self._run_name = run_name
        self._experiment_name = experiment
        self._tracking_uri = store_uri(tracking_uri)
        self._run_id: str | None = None
        self._experiment_id: str | None = None
        self._log_model = False
        self._initialized = False
        self._outbox = Outbox(
            self._folder / "mlflow-missed.jsonl",
            lambda entry: send(self._mlflow_client, str(self._run_id), entry),
            is_outage,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The MLflow client; the first use opens the store and this folder's run."""
        if not self._initialized:
            self._open()
        return self._mlflow_client

    @property
    def save_dir(self) -> str:
        return str(self._folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        now = int(time.time() * 1000)
        self._put({"metrics": [(entity_name(key), float(value), now, step or 0) for key, value in metrics.items()]})

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Record nested ``params`` under dotted names; MLflow refuses to change recorded ones, which stay."""
        nested = params if isinstance(params, Mapping) else vars(params)
        self._put({"params": {entity_name(k): str(v)[:_PARAM_VALUE] for k, v in flatten(nested).items()}})

    @rank_zero_only
    def log_tags(self, tags: Mapping[str, Any]) -> None:
        self._put({"tags": {entity_name(key): str(value)[:_TAG_VALUE] for key, value in tags.items()}})

    @rank_zero_only
    def log_data(self, digests: Mapping[str, str]) -> None:
        """Record content hashes by role: as data set inputs, cut to MLflow's 36 characters, and in full as tags."""
        self._put({"data": dict(digests)})
        self.log_tags({f"data.{role}": digest for role, digest in digests.items()})

    @rank_zero_only
    def log_files(self, path: Path) -> None:
        """Record a file, or a folder under its own name, as artifacts; a path that does not exist is skipped."""
        if path.exists():
            self._put({"files": str(path.absolute())})

    @rank_zero_only
    def go_on(self) -> None:
        """Set the status to RUNNING again, e.g. for a test after training."""
        self._put({"status": "RUNNING", "ended": None})

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        if self._initialized:
            # Lightning passes "failed" for Ctrl-C and SIGTERM too; the current exception tells which it was.
            stopped = isinstance(sys.exc_info()[1], KeyboardInterrupt | SIGTERMException)
            ended = ("KILLED" if stopped else "FAILED") if status == "failed" else "FINISHED"
            self._put({"status": ended, "ended": int(time.time() * 1000)}, now=True)
            if self._outbox.waits:
                command = f"python -m lit_prm mlflow-upload {self._folder}"
                print(f"When the store is back, send the rest: {command}", file=sys.stderr)

    def _put(self, entry: dict[str, Any], *, now: bool = False) -> None:
        _ = self.experiment  # opens the store, or raises
        self._outbox.put(entry, now=now)

    def _open(self) -> None:
        database = database_of(self._tracking_uri)
        ready = ready_database(database) if database else nullcontext()
        with clear_error(self._tracking_uri, _WAYS_OUT), ready:
            super().__init__(
                experiment_name=self._experiment_name,
                run_name=self._run_name,
                tracking_uri=self._tracking_uri,
                # beside an SQLite file; a server chooses by itself
                artifact_location=(database.parent / "mlartifacts").as_uri() if database else None,
            )
            self._make_experiment()
            self._run_id = self._earlier_run()
            _ = super().experiment  # looks up the run, or makes a new one
        write_text(self._folder / "mlflow-run-id", f"{self._run_id}\n")
        self._outbox.flush()  # what earlier processes kept

    def _make_experiment(self) -> None:
        """Create the experiment, unless it exists or another process creates it at the same moment."""
        from mlflow.exceptions import MlflowException

        if self._mlflow_client.get_experiment_by_name(self._experiment_name) is None:
            try:
                self._mlflow_client.create_experiment(self._experiment_name, self._artifact_location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def _earlier_run(self) -> str | None:
        """Id of the run in which this folder is recorded; None without one, or if the store has it no longer."""
        from mlflow.exceptions import MlflowException

        file = self._folder / "mlflow-run-id"
        if not file.exists():
            return None
        try:
            run = self._mlflow_client.get_run(file.read_text().strip())
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return str(run.info.run_id) if run.info.lifecycle_stage == "active" else None


def entity_name(key: str) -> str:
    """``key`` as MLflow can store it: ``acc@16`` becomes ``acc_at_16``, other refused characters or nothing a dash."""
    allowed = re.sub(r"[^a-zA-Z0-9_/. -]+", "-", key.replace("@", "_at_"))
    return posixpath.normpath(allowed).lstrip("/.")[:_NAME].rstrip("/.") or "-"
