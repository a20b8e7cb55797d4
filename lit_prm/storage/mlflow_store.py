"""MLflow's store: its URI, a complete SQLite database behind it, and one clear error if it cannot be used."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

from filelock import FileLock

from lit_prm.storage.atomic import remove_leftovers, written_whole

# By default MLflow waits four minutes in each call for a server that does not answer.
_PATIENCE = {"MAX_RETRIES": "1", "TIMEOUT": "10", "BACKOFF_FACTOR": "1"}
_HEADER = b"SQLite format 3\0"
_ARTIFACTS = "./mlruns"  # of experiments that name no other place, MLflow's default


def store_uri(given: str | None = None) -> str:
    """URI of the store: the given one, else MLFLOW_TRACKING_URI, else `mlflow.db` in the working directory."""
    return given or os.getenv("MLFLOW_TRACKING_URI") or uri_of(Path.cwd() / "mlflow.db")


def uri_of(database: Path) -> str:
    """The URI of an SQLite database; a percent sign or question mark in the path would otherwise name another file."""
    return "sqlite:///" + str(database).replace("%", "%25").replace("?", "%3F")


def database_of(uri: str) -> Path | None:
    """The file of an SQLite store; None for another store."""
    path, _, _ = uri.removeprefix("sqlite:///").partition("?")
    return Path(unquote(path)).absolute() if uri.startswith("sqlite:///") else None


@contextmanager
def ready_database(file: Path) -> Iterator[None]:
    """Hold the lock of an SQLite store inside the block, which finds its database complete.

    A database that is not there is made under another name and renamed: a stop at any moment leaves no half of one. An
    incomplete database without any run, which earlier versions left when they were stopped, is put aside and made
    anew. Raises RuntimeError if the file is no SQLite database.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):  # two processes that make or migrate one database at once would corrupt it
        if file.exists():
            _refuse_others(file)
        if file.exists() and _is_unfinished(file):
            aside = file.with_name(f"{file.name}.unfinished")
            file.replace(aside)
            print(f"{file} was never finished and holds no run: it is now {aside}", file=sys.stderr)
        if not file.exists() or not file.stat().st_size:
            _make(file)
        yield


def _refuse_others(file: Path) -> None:
    """Raise RuntimeError for a folder or another kind of file; MLflow would try to open it for two minutes."""
    if not file.is_file():
        raise RuntimeError(f"{file} is a folder, not MLflow's database. Move it, or set MLFLOW_TRACKING_URI.")
    with file.open("rb") as opened:
        begin = opened.read(len(_HEADER))
    if begin not in (b"", _HEADER):
        raise RuntimeError(
            f"{file} begins with {begin!r}, so it is no SQLite database. Move it, or set MLFLOW_TRACKING_URI."
        )


def _is_unfinished(file: Path) -> bool:
    """True for a database without any run whose tables MLflow had not finished."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    def first(query: str) -> object:
        return next(iter(database.execute(query).fetchone() or [None]))

    with closing(sqlite3.connect(file)) as database:
        try:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "runs" in tables and first("SELECT 1 FROM runs"):
                return False
            version = first("SELECT version_num FROM alembic_version") if "alembic_version" in tables else None
        except sqlite3.DatabaseError:  # damaged: MLflow's error says so
            return False
    return bool(tables) and version != _get_latest_schema_revision()


def _make(file: Path) -> None:
    """Make MLflow's tables in a new database."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    remove_leftovers(file)
    with written_whole(file) as partial:
        SqlAlchemyStore(uri_of(partial), _ARTIFACTS).engine.dispose()


@contextmanager
def clear_error(uri: str, ways_out: str) -> Iterator[None]:
    """Raise RuntimeError with the store's URI and the remedies if MLflow fails in the block, within seconds."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    from mlflow.exceptions import MlflowException

    # "Creating initial MLflow database tables", once per store
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        yield
    except (MlflowException, OSError) as error:
        reason = str(error).split("\n", 1)[0][:300]
        raise RuntimeError(f"The MLflow store {uri} cannot be used: {reason}. {ways_out}") from error
