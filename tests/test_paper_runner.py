"""The order of the paper's runs, what is skipped, what a failure costs, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.commands.paper.methods import LABELS
from lit_prm.commands.paper.runner import SHARES, Place, main, make_runs
from lit_prm.commands.paper.schedule import Schedule, SeededRun, with_predecessors
from tests.paper_jobs import run

ROOT = Path(__file__).parent.parent


def schedule(
    names: Sequence[str],
    seeds: int = 1,
    after: Mapping[str, str | None] | None = None,
    shares: Mapping[str, str] | None = None,
    finished: Sequence[SeededRun] = (),
) -> Schedule:
    jobs = [SeededRun(name, seed) for name in names for seed in range(seeds)]
    return Schedule(jobs, after or {}, shares or {}, lambda job: job in finished)


# --- which run may start --------------------------------------------------------------------------


def test_the_first_run_of_a_seed_is_alone_in_it_and_then_all_may_start() -> None:
    made = schedule(["a", "b", "c"], seeds=2)
    assert [made.start(), made.start(), made.start()] == [SeededRun("a", 0), SeededRun("a", 1), None]
    made.end(SeededRun("a", 1), well=True)
    assert [made.start(), made.start(), made.start()] == [SeededRun("b", 1), SeededRun("c", 1), None]


def test_after_a_failed_first_run_the_next_one_is_alone() -> None:
    made = schedule(["a", "b", "c"])
    made.start()
    made.end(SeededRun("a", 0), well=False)
    assert [made.start(), made.start()] == [SeededRun("b", 0), None]


def test_what_is_finished_is_not_made_again_and_counts_as_the_seeds_world() -> None:
    made = schedule(["a", "b", "c"], finished=[SeededRun("b", 0)])
    assert [made.start(), made.start(), made.start()] == [SeededRun("a", 0), SeededRun("c", 0), None]


def test_a_predecessor_of_the_same_seed_comes_first_and_its_failure_loses_all_that_follow() -> None:
    made = schedule(["w", "a", "b", "c"], after={"b": "a", "c": "b"}, finished=[SeededRun("w", 0)])
    assert [made.start(), made.start()] == [SeededRun("a", 0), None]
    assert made.end(SeededRun("a", 0), well=False) == [SeededRun("b", 0), SeededRun("c", 0)]
    assert made.outstanding == 0
    assert made.lost == {SeededRun("a", 0), SeededRun("b", 0), SeededRun("c", 0)}


def test_a_shared_cache_is_filled_by_one_run_but_the_other_goes_on_when_that_fails() -> None:
    made = schedule(["w", "soft", "hard"], shares={"soft": "hard"}, finished=[SeededRun("w", 0)])
    assert [made.start(), made.start()] == [SeededRun("hard", 0), None]
    assert made.end(SeededRun("hard", 0), well=False) == []
    assert made.start() == SeededRun("soft", 0)


@given(
    count=st.integers(1, 7),
    seeds=st.integers(1, 3),
    workers=st.integers(1, 4),
    data=st.data(),
)
def test_whatever_fails_every_job_ends_once_and_never_before_what_it_needs(
    count: int, seeds: int, workers: int, data: st.DataObject
) -> None:
    names = [f"e{i}" for i in range(count)]
    after = {name: data.draw(st.sampled_from([None, *names[:i]])) for i, name in enumerate(names)}
    shares = {
        name: data.draw(st.sampled_from(names[:i])) for i, name in enumerate(names) if i and data.draw(st.booleans())
    }
    made = schedule(names, seeds, after, shares)
    running: list[SeededRun] = []
    while made.outstanding:
        while len(running) < workers and (job := made.start()):
            before = after[job.experiment]
            assert before is None or SeededRun(before, job.seed) in made.ended
            running.append(job)
        assert running, "nothing may start"
        made.end(running.pop(data.draw(st.integers(0, len(running) - 1))), data.draw(st.booleans()))
    assert len(made.ended) + len(made.lost) == count * seeds
    assert not made.ended & made.lost


def test_predecessors_that_nobody_asked_for_are_added_before_and_circles_refused() -> None:
    after = {"c": "b", "b": "a"}
    assert list(with_predecessors(["x", "c", "b"], after.get)) == ["x", "a", "b", "c"]
    with pytest.raises(ValueError, match=r"wait for each other: a after b after a\. Remove"):
        with_predecessors(["a"], {"a": "b", "b": "a"}.get)


def test_every_shared_cache_names_experiments_of_the_paper() -> None:
    assert {*SHARES, *SHARES.values()} <= LABELS.keys()


# --- through processes ----------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with experiments and a scale with one test set."""
    for name in ("a", "b", "c", "fails", "dies", "unjudged", "sleeps", "needs-fails"):
        file = tmp_path / "experiments" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text("# asks nothing\n" + ("after: fails\n" if name == "needs-fails" else ""))
    (tmp_path / "experiments" / "scale").mkdir()
    (tmp_path / "experiments" / "scale" / "tiny.yaml").write_text("data:\n  test: {test: x.jsonl}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(place: Path) -> list[str]:
    """What was run, in order."""
    file = place / "order.txt"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def test_runs_share_processes_and_what_they_print_is_in_their_log(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert make_runs(["a", "b", "c"], Place("tiny"), seeds=2, workers=2, run=run) == 0
    assert sorted(made(place)) == sorted(f"{name}/{seed}" for name in "abc" for seed in (0, 1))
    assert len({line.split()[1] for line in (place / "order.txt").read_text().splitlines()}) == 2
    assert (place / "runs/tiny/b/seed-1/log.txt").read_text() == "this is b seed 1\na warning\n"
    printed = capfd.readouterr().out
    assert "this is" not in printed
    assert "[6/6]" in printed


def test_a_failure_is_told_with_the_end_of_its_log_and_the_rest_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--names", "a", "fails", "dies", "unjudged", "needs-fails", "b", "--seeds", "1", "--only", "runs"], run)
    assert ended.value.code == 1
    assert {"a/0", "b/0"} <= set(made(place))
    printed = capsys.readouterr().out
    assert "ValueError: no luck with fails seed 0" in printed
    assert "needs-fails seed 0 needs fails seed 0: left out" in printed
    for name in ("fails", "dies", "unjudged"):
        assert f"{name} seed 0: FAILED" in printed


def test_finished_runs_are_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_runs(["a", "b"], Place("tiny"), seeds=1, workers=1, run=run) == 0
    assert make_runs(["a", "b"], Place("tiny"), seeds=1, workers=1, run=run) == 0
    assert made(place) == ["a/0", "b/0"]
    assert "all 2 runs are finished" in capsys.readouterr().out
    killed = place / "runs/tiny/b/seed-0/summary.json"
    killed.write_text(json.dumps({"status": "KILLED", "metrics": {"bon/test/acc@1": 0.5}}))
    make_runs(["a", "b"], Place("tiny"), seeds=1, workers=1, run=run)
    assert made(place) == ["a/0", "b/0", "b/0"]


def test_a_name_without_a_file_is_refused_with_those_that_have_one(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"(?s)unknown NAME 'typo'.*asks nothing"):
        make_runs(["typo"], Place("tiny"), seeds=1, workers=1, run=run)
    with pytest.raises(SystemExit, match="2"):
        main(["--seeds", "0"])
    assert "--seeds: 0 is not at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_stopping_ends_the_workers_too_and_says_how_to_go_on(place: Path, number: signal.Signals) -> None:
    code = (
        "from lit_prm.commands.paper.runner import main; from tests.paper_jobs import run\n"
        "if __name__ == '__main__': main(['--names', 'sleeps', '--seeds', '1', '--only', 'runs'], run)"
    )
    (place / "go.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, "go.py"], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 300
    while not (place / "sleeping").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(number)
    try:
        printed, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command goes on" in printed
    assert made(place) == []


def test_neither_plan_nor_tables_import_the_trainer() -> None:
    code = (
        "import sys, lit_prm.commands.paper.runner, lit_prm.commands.paper.document, lit_prm.commands.paper.figures\n"
        "sys.exit(bool({'torch', 'lightning', 'mlflow', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
