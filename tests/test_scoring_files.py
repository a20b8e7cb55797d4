"""`score` on files: a killed job ends with the bytes of an unbroken one, and nothing is overwritten unasked."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import lit_prm
from lit_prm.commands.main import main
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.scoring import files
from lit_prm.scoring.scored_files import read_scored
from lit_prm.storage import moved
from lit_prm.storage.atomic import LOCK, alone

GROUPS = [
    Group(
        problem=Problem(prompt=f"What is {i} * (3 + 4)?", id=f"p{i}"),
        rollouts=tuple(
            Rollout(response=f"Add: {i + k}.\n\nDouble: {'9' * k}.\n\nIt is {7 * i}.", correct=k == 0) for k in range(4)
        ),
    )
    for i in range(12)
]
_pieces = ("Add: 8.\n\n", "Double: 9.\n\n", "It is 49.")
_marked = replace(GROUPS[7].rollouts[1], steps=_pieces, first_error=1, error_kinds=("", "slip", ""))
GROUPS[7] = replace(GROUPS[7], rollouts=(GROUPS[7].rollouts[0], _marked, *GROUPS[7].rollouts[2:]))


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rollouts") / "some.jsonl"
    write_groups(path, GROUPS)
    return path


@pytest.fixture
def args(policy_folder: Path, reference_folder: Path, rollouts: Path, tmp_path: Path) -> list[str]:
    """The command with everything but --out; chunks of two problems."""
    return ["score", str(policy_folder), str(rollouts), "--reference", str(reference_folder), "--threads", "1"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 300)


def test_score_writes_every_response_in_order(args: list[str], tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    main([*args, "--out", str(out)])
    found = read_scored(str(out))
    assert list(found.groups) == GROUPS
    assert {len(r.step_rewards) for rewards in found.rewards for r in rewards} == {3}
    assert all(r.token_rewards for rewards in found.rewards for r in rewards)
    assert not out.with_name("scored.jsonl.parts").exists()


@pytest.mark.parametrize("name", ["s.jsonl.gz", "s.parquet"])
def test_every_kind_of_file_holds_the_same(name: str, args: list[str], tmp_path: Path) -> None:
    main([*args, "--out", str(tmp_path / "s.jsonl")])
    main([*args, "--out", str(tmp_path / name)])
    plain, other = (read_scored(str(tmp_path / n)) for n in ("s.jsonl", name))
    assert (plain.groups, plain.rewards, plain.identity) == (other.groups, other.rewards, other.identity)
    if name.endswith("gz"):
        assert gzip.decompress((tmp_path / name).read_bytes()) == (tmp_path / "s.jsonl").read_bytes()


def test_rows_that_fit_no_table_are_refused_before_they_are_scored(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = replace(GROUPS[1], problem=replace(GROUPS[1].problem, prompt=({"role": "user", "content": "1+1?"},)))
    write_groups(tmp_path / "mixed.jsonl", [GROUPS[0], chat])
    monkeypatch.setattr(files.ScoringJob, "_save", lambda *_: pytest.fail("scored"))
    with pytest.raises(SystemExit):
        main([*args[:2], str(tmp_path / "mixed.jsonl"), *args[3:], "--out", str(tmp_path / "s.parquet")])
    assert not (tmp_path / "s.parquet").exists()


def test_a_finished_file_is_left_alone(args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.jsonl"
    main([*args, "--out", str(out)])
    before = out.stat().st_mtime_ns
    main([*args, "--out", str(out)])
    assert "holds these scores already" in capsys.readouterr().out
    assert out.stat().st_mtime_ns == before


def test_a_file_finished_before_classes_moved_is_finished(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(moved, "_warned", [])
    out = tmp_path / "s.jsonl"
    main([*args, "--out", str(out)])
    out.write_text(out.read_text().replace("lit_prm.data.steps.BlankLine", "lit_prm.steps.BlankLine"))
    with pytest.warns(FutureWarning, match=r"lit_prm\.steps\.BlankLine is now lit_prm\.data\.steps\.BlankLine"):
        main([*args, "--out", str(out)])
    assert "holds these scores already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--beta", "2"], "another beta"),
        (["--steps", "Newline", "--aggregate", "mean"], "another aggregate, steps, template"),
        (["--limit", "3"], "other problems, responses or steps"),
        (["--detail", "steps"], None),
    ],
)
def test_scores_of_something_else_are_never_overwritten(
    change: list[str], message: str | None, args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.jsonl"
    main([*args, "--out", str(out)])
    before = out.read_bytes()
    if message is None:  # what is there says more than what is asked
        main([*args, *change, "--out", str(out)])
    else:
        with pytest.raises(SystemExit, match="2"):
            main([*args, *change, "--out", str(out)])
        assert message in capsys.readouterr().err
    assert out.read_bytes() == before


def test_token_detail_is_not_found_in_a_file_of_steps(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.jsonl"
    main([*args, "--out", str(out), "--detail", "steps"])
    assert not any(r.token_rewards for rewards in read_scored(str(out)).rewards for r in rewards)
    with pytest.raises(SystemExit, match="2"):
        main([*args, "--out", str(out)])
    assert "without their tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--out", "s.csv"], "scores are written as .jsonl, .jsonl.gz, .parquet"),
        (["--limit", "0"], "--limit: 0 is not at least 1"),
        (["--eval-tokens", "0"], "--eval-tokens: 0 is not"),
    ],
)
def test_wrong_options_are_told_in_a_line(
    extra: list[str], message: str, args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([*args, *extra])
    assert message in capsys.readouterr().err


def test_problems_without_responses_are_refused(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "math.jsonl").write_text(json.dumps({"problem": "1+1?", "answer": "2"}) + "\n")
    args[2] = str(tmp_path / "math.jsonl")
    with pytest.raises(SystemExit, match="2"):
        main([*args, "--out", str(tmp_path / "s.jsonl")])
    assert "problems without responses" in capsys.readouterr().err


def test_another_process_at_the_same_file_is_told(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone(tmp_path / "s.jsonl.parts"), pytest.raises(SystemExit, match="2"):
        main([*args, "--out", str(tmp_path / "s.jsonl")])
    assert "Another process is writing s.jsonl" in capsys.readouterr().err


def test_a_lock_loses_its_name_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one who opened it before would hold what nobody else finds."""
    release, there = FileLock.release, list[bool]()

    def released(self: FileLock, force: bool = False) -> None:
        there.append((tmp_path / "s.jsonl.parts" / LOCK).exists())
        release(self, force)

    monkeypatch.setattr(FileLock, "release", released)
    with alone(tmp_path / "s.jsonl.parts"):
        pass
    assert there[0] is False
    assert not (tmp_path / "s.jsonl.parts").exists()


def test_parts_of_another_job_are_not_used(args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "s.jsonl"
    stop_after(2, monkeypatch)
    with pytest.raises(SystemExit, match="130"):
        main([*args, "--out", str(out)])
    monkeypatch.undo()
    monkeypatch.setattr(files, "CHUNK", 300)
    main([*args, "--out", str(out), "--beta", "2"])
    main([*args, "--out", str(tmp_path / "whole.jsonl"), "--beta", "2"])
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_interrupted_job_scores_only_what_is_left(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scored = tmp_path / "s.jsonl", list[Path]()
    main([*args, "--out", str(tmp_path / "whole.jsonl")])
    stop_after(3, monkeypatch)
    with pytest.raises(SystemExit, match="130"):
        main([*args, "--out", str(out)])
    assert not out.exists()
    monkeypatch.undo()
    monkeypatch.setattr(files, "CHUNK", 300)
    save = files.ScoringJob._save

    def counted(self: files.ScoringJob, part: Path, groups: Sequence[Group]) -> None:
        scored.append(part)
        save(self, part, groups)

    monkeypatch.setattr(files.ScoringJob, "_save", counted)
    main([*args, "--out", str(out)])
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(scored) == 6 - 3


def stop_after(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ctrl-c would, once so many are saved."""
    save, done = files.ScoringJob._save, list[int]()

    def stopping(self: files.ScoringJob, part: Path, groups: Sequence[Group]) -> None:
        if len(done) == chunks:
            raise KeyboardInterrupt
        save(self, part, groups)
        done.append(1)

    monkeypatch.setattr(files.ScoringJob, "_save", stopping)


KILLED = """
import sys, time
from lit_prm.scoring import files
files.CHUNK = 300
save = files.ScoringJob._save
def slowly(self, part, groups):
    print("chunk", flush=True)
    time.sleep(0.05)
    save(self, part, groups)
files.ScoringJob._save = slowly
import lit_prm
from lit_prm.commands.main import main
main(sys.argv[1:])
"""


def started(args: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def killed_once(args: Sequence[str], rng: random.Random) -> None:
    """Start the command and SIGKILL it a random moment after one of its chunks has begun."""
    process = started(args)
    assert process.stdout is not None
    wanted = rng.randint(1, 3)
    seen = 0
    for line in process.stdout:
        seen += line.startswith("chunk")
        if seen == wanted:
            break
    time.sleep(rng.uniform(0, 0.12))
    process.send_signal(signal.SIGKILL)
    process.communicate()


def killed_and_rerun(args: list[str], out: Path, kills: int, seed: int) -> bytes:
    rng = random.Random(seed)
    for _ in range(kills):
        killed_once([*args, "--out", str(out)], rng)
    process = started([*args, "--out", str(out)])
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    assert not out.with_name(f"{out.name}.parts").exists()
    return out.read_bytes()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_killed_and_rerun_gives_the_same_bytes(
    seed: int, args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rng = tmp_path / "s.jsonl", random.Random(seed)
    main([*args, "--out", str(tmp_path / "whole.jsonl")])
    for _ in range(2):
        kill_a_fork([*args, "--out", str(out)], rng, monkeypatch)
    main([*args, "--out", str(out)])
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not out.with_name("s.jsonl.parts").exists()


def kill_a_fork(args: Sequence[str], rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of this process runs the command and is killed a random moment after a chunk has begun."""
    reading, writing = os.pipe()
    save, wanted, pause = files.ScoringJob._save, rng.randint(1, 3), rng.uniform(0, 0.05)

    def told(self: files.ScoringJob, part: Path, groups: Sequence[Group]) -> None:
        os.write(writing, b".")
        save(self, part, groups)

    pid = os.fork()
    if pid == 0:
        try:
            monkeypatch.setattr(files.ScoringJob, "_save", told)
            main(args)
        finally:
            os._exit(0)
    os.close(writing)
    seen = b""
    while len(seen) < wanted and (one := os.read(reading, 1)):
        seen += one
    time.sleep(pause)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.parquet"])
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_gives_the_same_bytes(seed: int, name: str, args: list[str], tmp_path: Path) -> None:
    main([*args, "--out", str(tmp_path / f"whole-{name}")])
    assert killed_and_rerun(args, tmp_path / name, kills=3, seed=seed) == (tmp_path / f"whole-{name}").read_bytes()


def test_a_regraded_or_reworded_file_is_not_taken_for_the_scored_one(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, changed = tmp_path / "s.jsonl", tmp_path / "other.jsonl"
    main([*args, "--out", str(out)])
    for other in (
        [replace(g, rollouts=tuple(replace(r, correct=not r.correct) for r in g.rollouts)) for g in GROUPS],
        [replace(g, problem=replace(g.problem, prompt=f"{g.problem.prompt} Now.")) for g in GROUPS],
        [
            replace(
                g,
                rollouts=tuple(replace(r, steps=(r.response,), first_error=None, error_kinds=None) for r in g.rollouts),
            )
            for g in GROUPS
        ],
    ):
        write_groups(changed, other)
        with pytest.raises(SystemExit, match="2"):
            main([args[0], args[1], str(changed), *args[3:], "--out", str(out)])
        assert "of other problems, responses or steps, or with other labels" in capsys.readouterr().err


def test_a_moved_model_has_the_same_scores(args: list[str], policy_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    main([*args, "--out", str(out)])
    before = out.read_bytes()
    moved = shutil.copytree(policy_folder, tmp_path / "moved")
    main([args[0], str(moved), *args[2:], "--out", str(out)])
    assert out.read_bytes() == before


def test_the_file_of_responses_is_never_the_output(args: list[str], rollouts: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*args, "--out", str(rollouts)])


def test_parts_hang_on_their_own_responses_and_on_what_rounds_them(policy_folder: Path, reference_folder: Path) -> None:
    def parts(groups: Sequence[Group], **options: Any) -> list[str]:
        scorer = lit_prm.load(str(policy_folder), reference=str(reference_folder), **options)
        return [part.name for part, _ in files.ScoringJob(scorer, groups, Path("s.jsonl")).chunks()]

    whole = parts(GROUPS)
    assert len(set(whole)) == len(whole) > 2
    assert parts(GROUPS[:6]) == whole[: len(parts(GROUPS[:6]))]
    assert not set(parts(GROUPS, eval_tokens=64)) & set(whole)
    assert not set(parts(GROUPS, beta=2.0)) & set(whole)
