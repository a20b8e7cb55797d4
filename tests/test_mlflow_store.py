"""The database behind MLflow's records: complete whenever it exists, wherever it lies."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lit_prm.storage import mlflow_store
from lit_prm.storage.mlflow_logger import MLflow
from lit_prm.storage.mlflow_store import database_of, ready_database, store_uri, uri_of
from tests.forks import Fork
from tests.mlflow_store import fresh_store, tracker


def edited(database: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(database)) as opened:
        for statement in statements:
            opened.execute(statement)
        opened.commit()
    return database


@pytest.mark.filterwarnings("ignore:.*loader strategy:DeprecationWarning")  # of MLflow's tables
@pytest.mark.parametrize("statements", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_while_the_database_is_made_leaves_none(statements: int, tmp_path: Path) -> None:
    """Killed among the first tables, and among the migrations of a database that has tables."""
    file = tmp_path / "mlflow.db"

    def killed() -> None:
        from sqlalchemy import Engine, event

        left = statements

        @event.listens_for(Engine, "before_cursor_execute")
        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)

        with ready_database(file):
            pass

    assert Fork(killed, tmp_path / "fork").ended().returncode == 9
    assert not file.exists()
    (leftover,) = tmp_path.glob(".mlflow.db.*.partial")
    if statements == 200:  # and the next start goes on
        shutil.copy(leftover, file)  # as earlier versions left it
        tracker(tmp_path, uri_of(file)).log_metrics({"a": 1.0})
        assert {path.name for path in tmp_path.glob("*.db*")} == {"mlflow.db", "mlflow.db.lock", "mlflow.db.unfinished"}
        assert not list(tmp_path.glob(".*.partial"))


def test_only_an_unfinished_database_without_runs_is_put_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_store, "_make", Path.touch)  # takes seconds
    uri = fresh_store(tmp_path)
    file, aside = tmp_path / "mlflow.db", tmp_path / "mlflow.db.unfinished"
    older = "UPDATE alembic_version SET version_num = '451aebb31d03'"
    with ready_database(file):  # complete, and still without runs
        assert not aside.exists()
    tracker(tmp_path, uri).log_metrics({"a": 1.0})
    with ready_database(edited(file, older)):  # of an older MLflow, with a run
        assert not aside.exists()
    with ready_database(edited(file, *(f"DELETE FROM {table}" for table in ("metrics", "latest_metrics", "runs")))):
        assert aside.exists()
    assert "holds no run: it is now" in capsys.readouterr().err


def test_what_is_no_database_is_told_at_once_and_stays(tmp_path: Path) -> None:
    text, folder = tmp_path / "text.db", tmp_path / "folder.db"
    text.write_text("something else\n")
    folder.mkdir()
    with pytest.raises(RuntimeError, match=re.escape(f"{text} begins with b'something else\\n', so it is no SQLite")):
        tracker(tmp_path, uri_of(text)).log_metrics({"a": 1.0})
    with pytest.raises(RuntimeError, match=r"folder\.db is a folder, not MLflow's database\. Move it"):
        tracker(tmp_path, uri_of(folder)).log_metrics({"a": 1.0})
    assert text.read_text() == "something else\n"


@pytest.mark.parametrize("name", ["50% of it", "what?", "it's", "a#b", "%41"])
def test_the_store_is_in_the_working_directory_whatever_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    here = tmp_path / name
    here.mkdir()
    monkeypatch.chdir(here)
    assert database_of(store_uri()) == here / "mlflow.db"
    if name in ("what?", "%41"):
        fresh_store(here)
        MLflow("run", "name").log_metrics({"a": 1.0})
        with closing(sqlite3.connect(here / "mlflow.db")) as opened:
            assert opened.execute("SELECT key FROM metrics").fetchall() == [("a",)]
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} <= {here, here / "run"}
