"""`compare` on a real MLflow store: which runs it takes, what it writes, what it leaves in the store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from lit_prm.reports.compare.command import main
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.record import record
from lit_prm.reports.compare.store import Store
from tests.compare_runs import recorded
from tests.mlflow_store import fresh_store

A, B = [0.25, 0.5, 0.0, 0.75], [0.5, 0.75, 0.25, 1.0]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(uri: str, *names: str) -> tuple[Evidence, list[str]]:
    told: list[str] = []
    return Evidence(Store(uri).experiments(names, "tiny", told.append)), told


def parents(uri: str) -> list[Any]:
    found = MlflowClient(uri).search_runs(["1"])
    return [run for run in found if "compare.key" in run.data.tags]


def compared(uri: str) -> set[str]:
    """The runs that the children of the only comparison refer to."""
    (parent,) = parents(uri)
    found = MlflowClient(uri).search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert all(child.info.status == "FINISHED" for child in found)
    return {child.data.tags["compared.run_id"] for child in found}


# --- which runs -----------------------------------------------------------------------------------


def test_the_latest_finished_run_of_every_seed_is_read(tmp_path: Path, uri: str) -> None:
    recorded(tmp_path, uri, "a", 0, [0.0, 0.0], again=1)
    latest = recorded(tmp_path, uri, "a", 0, A, again=2, losses=(0.7, 0.6))
    killed = recorded(tmp_path, uri, "a", 0, B, again=3, status="failed")
    other = recorded(tmp_path, uri, "a", 1, B)
    recorded(tmp_path, uri, "a", 2, B, tags={"scale": "smol"})
    evidence, told = read(uri, "a")
    experiment = evidence.experiments["a"]
    assert [run.id for run in experiment.runs] == [latest, other]
    assert told == [f"a, seed 0: a run that is FAILED was left out ({killed})"]
    assert experiment.runs[0].histories["train/loss"] == [(0, 0.7), (1, 0.6)]
    assert experiment.runs[0].seconds == 90.0
    assert experiment.runs[0].problems["test"].curves["bon/min"][:, 0].tolist() == A
    assert evidence.telling(("test",)) == (4, 16, 64)


def test_names_choose_and_order_and_none_means_all(tmp_path: Path, uri: str) -> None:
    for name in ("b", "a", "it's"):
        recorded(tmp_path, uri, name, 0, A)
    assert read(uri, "b", "a", "b")[0].names == ("b", "a")
    assert read(uri)[0].names == ("a", "b", "it's")
    assert read(uri, "it's")[0].names == ("it's",)


def test_an_unknown_name_lists_what_there_is(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no experiment is to be found
    recorded(tmp_path, uri, "ce-1resp", 0, A)
    recorded(tmp_path, uri, "running", 0, A, status="failed")
    with pytest.raises(
        ValueError, match=r"(?s)no finished run of typo at scale 'tiny'.*tiny: ce-1resp\n.*make exp NAME=typo"
    ):
        read(uri, "ce-1resp", "typo")
    (tmp_path / "experiments").mkdir()
    with pytest.raises(ValueError, match=r"experiments/ has no typo either: python -m lit_prm list"):
        read(uri, "ce-1resp", "typo")
    (tmp_path / "experiments" / "running.yaml").touch()
    with pytest.raises(ValueError, match=r"(?s)running seed 0 is FAILED.*make exp NAME=running"):
        read(uri, "running")
    with pytest.raises(ValueError, match=r"(?s)no run at scale 'smol'.*tiny: ce-1resp"):
        Store(uri).experiments([], "smol", print)


def test_what_there_is_is_found_without_reading_every_run(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, uri, "ce-1resp", 0, A)
    recorded(tmp_path, uri, "ce-1resp", 1, A)
    deleted = recorded(tmp_path, uri, "deleted", 0, A)
    MlflowClient(uri).delete_run(deleted)
    store, asked = Store(uri), list[str]()
    search = store._search

    def watched(query: str) -> Iterator[Any]:
        asked.append(query)
        return search(query)

    monkeypatch.setattr(store, "_search", watched)
    with pytest.raises(ValueError, match=r"it has\n  tiny: ce-1resp\nmake"):
        store.experiments(["typo"], "tiny", print)
    assert asked == ["tags.scale = 'tiny' and tags.name = 'typo'"]
    served, store.uri = store.uri, "http://a.server"  # whose tables cannot be read
    assert set(store._finished_names()) == {("tiny", "ce-1resp")}
    store.uri = served


def test_reading_shows_its_progress_on_stderr_alone(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path, uri, "a", 0, A)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    read(uri, "a")
    told = capsys.readouterr()
    assert "finding runs" in told.err
    assert "reading runs" in told.err
    assert told.out == ""


def test_a_file_in_place_of_the_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for out in ("there", "there/below"):
        with pytest.raises(ValueError, match=f"--out {out}: there is a file; name a folder"):
            main(["a", "--uri", "sqlite:///nowhere.db", "--out", out])


def test_a_missing_store_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no MLflow store .*typo.db; correct --uri"):
        Store(f"sqlite:///{tmp_path / 'typo.db'}")
    assert not (tmp_path / "typo.db").exists()


def test_runs_without_files_are_told_and_shown_with_their_own_intervals(tmp_path: Path, uri: str) -> None:
    recorded(tmp_path, uri, "old", 0, A, kept=False)
    recorded(tmp_path, uri, "new", 0, B)
    evidence, told = read(uri, "old", "new")
    assert [line[:55] for line in told] == ["old, seed 0: no scores/*-problems.jsonl.gz is kept with"]
    assert evidence.estimate("old", "bon", ("test",), (4,)) == pytest.approx((37.5, 32.5, 42.5, 1))
    assert evidence.pairs("bon", ("test",), (4,)) == []


# --- what it writes -------------------------------------------------------------------------------


def test_main_prints_writes_and_records(tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [recorded(tmp_path, uri, n, s, r, losses=(0.7, 0.6)) for n, r in (("a", A), ("b", B)) for s in (0, 1)]
    folder = tmp_path / "runs" / "tiny" / "compare" / "a-b"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("lies there already")
    main(["a", "b", "--uri", uri])
    printed = capsys.readouterr().out
    assert "b - a" in printed
    assert "+25.0 [+25.0, +25.0]" in printed
    names = {"curves", "gains", "cost", "levels", "training"}
    assert {p.name for p in (folder / "figures").iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "svg")}
    assert (folder / "figures" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<title>a vs b at scale tiny</title>" in (folder / "report.html").read_text()
    assert "| b - a | **+25.0" in (folder / "report.md").read_text().replace("\\", "")
    (parent,) = parents(uri)
    assert (parent.info.run_name, parent.info.status) == ("compare: a vs b", "FINISHED")
    assert parent.data.metrics["b/test/acc_at_16"] == pytest.approx(0.625)
    kept = {a.path for a in MlflowClient(uri).list_artifacts(parent.info.run_id)}
    assert kept == {"report.html", "report.md", "figures"}
    drawn = {Path(a.path).name for a in MlflowClient(uri).list_artifacts(parent.info.run_id, "figures")}
    assert drawn == {p.name for p in (folder / "figures").iterdir()}
    assert compared(uri) == set(ids)


def test_the_same_comparison_goes_into_the_same_parent_and_runs_stay_as_they_are(tmp_path: Path, uri: str) -> None:
    def compare(*names: str) -> str:
        return record(Store(uri), read(uri, *names)[0], "tiny", folder, [])

    folder = tmp_path / "report"
    folder.mkdir()
    first, other = recorded(tmp_path, uri, "a", 0, A), recorded(tmp_path, uri, "b", 0, B)
    before = MlflowClient(uri).get_run(first).to_dictionary()
    made = compare("a", "b")
    assert compared(uri) == {first, other}
    newer = recorded(tmp_path, uri, "b", 0, A, again=1)
    assert compare("a", "b") == made
    assert compared(uri) == {first, newer}
    assert MlflowClient(uri).get_run(first).to_dictionary() == before
    assert read(uri)[0].names == ("a", "b")  # neither parent nor children are taken for runs
    assert compare("b", "a") != made  # other columns, other first


def test_without_record_the_store_stays_as_it_is_and_files_are_the_same_to_the_byte(tmp_path: Path, uri: str) -> None:
    recorded(tmp_path, uri, "a", 0, A)
    recorded(tmp_path, uri, "old", 0, A, kept=False)
    for out in ("one", "two"):
        main(["a", "old", "--uri", uri, "--out", out, "--no-record"])
    assert parents(uri) == []
    files = [{p.name: p.read_bytes() for p in Path(out).rglob("*.*")} for out in ("one", "two")]
    assert files[0] == files[1]
    assert b"no scores/*-problems" in files[0]["report.html"]


def test_importing_needs_nothing_slow() -> None:
    slow = "{'torch', 'lightning', 'mlflow', 'matplotlib', 'numpy'}"
    code = f"import sys, lit_prm.reports.compare.command; sys.exit(bool({slow} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
