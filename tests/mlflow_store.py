"""Fresh MLflow stores for tests, copied from one that was migrated once."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

from lit_prm.storage.mlflow_logger import MLflow


def fresh_store(folder: Path) -> str:
    """URI of an empty store in ``folder``; its artifacts go to ``folder/mlartifacts``."""
    database = folder / "mlflow.db"
    shutil.copy(_template(), database)
    return f"sqlite:///{database}"


@cache
def _template() -> Path:
    from mlflow import MlflowClient

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with warnings.catch_warnings():  # MLflow's tables use a loader strategy that SQLAlchemy 2.1 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return folder / "mlflow.db"


def tracker(folder: Path, uri: str, name: str = "ce-1resp") -> MLflow:
    """The logger a process starts with for the run of ``folder``."""
    return MLflow(folder=str(folder / "run"), run_name=name, tracking_uri=uri)
