"""`compare` on run folders and a real MLflow store: which runs it takes, what it writes, what it records."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from lit_prm.reports.compare.command import main
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.store import Store, open_store, record
from lit_prm.reports.runs import read_experiments
from tests.compare_runs import recorded, tracked
from tests.mlflow_store import fresh_store

A, B = [0.25, 0.5, 0.0, 0.75], [0.5, 0.75, 0.25, 1.0]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(runs: Path, *names: str) -> tuple[Evidence, list[str]]:
    notices: list[str] = []
    return Evidence(read_experiments(runs, "tiny", names, notices.append)), notices


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


def test_the_finished_run_of_every_seed_is_read(runs: Path) -> None:
    folder = recorded(runs, "a", 0, A, params={"model": {"beta": 0.5}})
    recorded(runs, "a", 10, B)
    recorded(runs, "a", 2, B, status="FAILED")
    (runs / "tiny" / "a" / "seed-3").mkdir()
    recorded(runs, "a", 4, B, scale="smol")
    evidence, notices = read(runs, "a")
    first, other = evidence.experiments["a"].runs
    assert (first.seed, other.seed) == (0, 10)
    assert notices == [
        f"{runs}/tiny/a/seed-2: this run was left out because it is FAILED",
        f"{runs}/tiny/a/seed-3: this run was left out because it is not finished",
    ]
    assert first.params["model.beta"] == 0.5
    assert (first.digests, first.commit, first.dirty) == ({"test": "d" * 64}, "a" * 40, False)
    assert (first.seconds, first.mlflow_id, first.histories) == (90.0, "", {})
    assert first.ended == (folder / "summary.json").stat().st_mtime
    assert first.problems["test"].curves["bon/min"][:, 0].tolist() == A
    assert evidence.telling(("test",)) == (4, 16, 64)


@pytest.mark.parametrize(("file", "content"), [
    ("summary.json", b'{"status": "FINISHED"}'),
    ("scores/test-problems.jsonl.gz", gzip.compress(b'{"problem": "a"}\n' * 99, mtime=0)[:30]),
    ("scores/test-problems.jsonl.gz", gzip.compress(b'{"problem": "a"}\n', mtime=0)),
    ("scores/test-problems.jsonl.gz", gzip.compress(b"", mtime=0)),
    ("scores/test-problems.jsonl.gz", b"not gzipped"),
])  # fmt: skip
def test_a_damaged_or_foreign_file_is_named_with_its_folder(runs: Path, file: str, content: bytes) -> None:
    damaged = recorded(runs, "a", 0, A) / file
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(damaged))} is damaged \(\w+: .*\); restore it, or remove"):
        read(runs, "a")


def test_training_curves_come_from_the_store_that_holds_the_run(runs: Path, uri: str) -> None:
    first = tracked(recorded(runs, "a", 0, A, metrics={"train/loss": 0.6}), uri, losses=(0.7, 0.6))
    recorded(runs, "a", 1, A, metrics={"train/loss": 0.6})
    (runs / "tiny" / "a" / "seed-1" / "mlflow-run-id").write_text("0" * 32)
    notices: list[str] = []
    store = open_store(uri, notices.append)
    assert store is not None
    run, unknown = store.with_curves(read(runs, "a")[0].experiments["a"], notices.append).runs
    assert (run.mlflow_id, run.histories) == (first, {"train/loss": [(0, 0.7), (1, 0.6), (4, 0.6)]})
    assert unknown.histories == {}
    assert [notice[:52] for notice in notices] == [f"a, seed 1: the MLflow store {uri}"[:52]]


def test_names_choose_and_order_and_none_means_all_that_finished(runs: Path) -> None:
    for name in ("b", "a", "it's"):
        recorded(runs, name, 0, A)
    recorded(runs, "running", 0, A, status="KILLED")
    assert read(runs, "b", "a", "b")[0].names == ("b", "a")
    assert read(runs)[0].names == ("a", "b", "it's")
    assert read(runs, "it's")[0].names == ("it's",)


def test_an_unknown_name_lists_the_finished_experiments(tmp_path: Path, runs: Path) -> None:
    recorded(runs, "ce-1resp", 0, A)
    recorded(runs, "running", 0, A, status="FAILED")
    with pytest.raises(
        ValueError,
        match=r"(?s)no finished run of typo at scale 'tiny' in .*tiny: ce-1resp\n.*make exp NAME=typo",
    ):
        read(runs, "ce-1resp", "typo")
    (tmp_path / "experiments").mkdir()
    with pytest.raises(ValueError, match=r"experiments/ has no typo either: python -m lit_prm list"):
        read(runs, "ce-1resp", "typo")
    (tmp_path / "experiments" / "running.yaml").touch()
    with pytest.raises(ValueError, match=r"(?s)running/seed-0 is FAILED.*make exp NAME=running"):
        read(runs, "running")
    with pytest.raises(ValueError, match=r"(?s)no run at scale 'smol'.*tiny: ce-1resp"):
        read_experiments(runs, "smol", [], print)


def test_reading_shows_its_progress_on_stderr_alone(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(runs, "a", 0, A)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    read(runs, "a")
    written = capsys.readouterr()
    assert "reading runs" in written.err
    assert written.out == ""


def test_a_file_in_place_of_the_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for out in ("there", "there/below"):
        with pytest.raises(ValueError, match=f"--out {out}: there is a file; name a folder"):
            main(["a", "--uri", "sqlite:///nowhere.db", "--out", out])


def test_without_a_store_runs_are_compared_and_none_is_made(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recorded(runs, "a", 0, A) / "mlflow-run-id").write_text("0" * 32)
    main(["a", "--uri", f"sqlite:///{tmp_path / 'typo.db'}"])
    printed = capsys.readouterr().out
    assert "typo.db: training curves are left out, nothing is recorded; correct --uri" in printed
    assert "recorded:" not in printed
    assert not (tmp_path / "typo.db").exists()


def test_runs_without_problems_are_named_and_shown_with_their_own_intervals(runs: Path) -> None:
    recorded(runs, "old", 0, A, kept=False)
    recorded(runs, "new", 0, B)
    evidence, notices = read(runs, "old", "new")
    assert [line[:54] for line in notices] == ["old, seed 0: the folder has no scores/*-problems.jsonl"]
    assert evidence.estimate("old", "bon", ("test",), (4,)) == pytest.approx((37.5, 32.5, 42.5))
    assert evidence.pairs("bon", ("test",), (4,)) == {}


# --- what it writes -------------------------------------------------------------------------------


def test_main_prints_writes_and_records(runs: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [
        tracked(recorded(runs, n, s, r, metrics={"train/loss": 0.6}), uri, losses=(0.7, 0.6))
        for n, r in (("a", A), ("b", B))
        for s in (0, 1)
    ]
    folder = runs / "tiny" / "compare" / "a-b"
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
    assert "| b - a | **+25.0 [+25.0, +25.0]" in (folder / "report.md").read_text()
    (parent,) = parents(uri)
    assert (parent.info.run_name, parent.info.status) == ("compare: a vs b", "FINISHED")
    assert parent.data.metrics["b/test/acc_at_16"] == pytest.approx(0.625)
    kept = {a.path for a in MlflowClient(uri).list_artifacts(parent.info.run_id)}
    assert kept == {"report.html", "report.md", "figures"}
    drawn = {Path(a.path).name for a in MlflowClient(uri).list_artifacts(parent.info.run_id, "figures")}
    assert drawn == {p.name for p in (folder / "figures").iterdir()}
    assert compared(uri) == set(ids)
    child = MlflowClient(uri).search_runs(["1"], f"tags.`compared.run_id` = '{ids[0]}'")[0]
    assert child.data.metrics["bon/test/acc_at_16"] == pytest.approx(0.375)


def test_the_same_comparison_goes_into_the_same_parent_and_runs_stay_as_they_are(
    runs: Path, uri: str, tmp_path: Path
) -> None:
    def compare(*names: str) -> str | None:
        return record(Store(uri), read(runs, *names)[0], "tiny", folder, [])

    folder = tmp_path / "report"
    folder.mkdir()
    first, at = tracked(recorded(runs, "a", 0, A), uri), recorded(runs, "b", 0, B)
    other = tracked(at, uri)
    before = MlflowClient(uri).get_run(first).to_dictionary()
    made = compare("a", "b")
    assert compared(uri) == {first, other}
    (at / "mlflow-run-id").unlink()
    newer = tracked(at, uri)
    assert compare("a", "b") == made
    assert compared(uri) == {first, newer}
    assert MlflowClient(uri).get_run(first).to_dictionary() == before
    assert compare("b", "a") != made  # other columns, other first


def test_without_record_the_store_stays_as_it_is_and_files_are_the_same_to_the_byte(runs: Path, uri: str) -> None:
    tracked(recorded(runs, "a", 0, A), uri)
    recorded(runs, "old", 0, A, kept=False)
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


def test_runs_without_an_mlflow_record_are_compared_without_torch_or_mlflow(runs: Path) -> None:
    recorded(runs, "a", 0, A)
    recorded(runs, "b", 0, B)
    code = (
        "import sys; from lit_prm.reports.compare.command import main\n"
        f"main(['a', 'b', '--runs', {str(runs)!r}])\n"
        "sys.exit(bool({'torch', 'lightning', 'mlflow'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "b - a" in done.stdout
    assert (runs / "tiny" / "compare" / "a-b" / "report.html").exists()
