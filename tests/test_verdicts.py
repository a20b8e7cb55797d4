"""Laws of kept verdicts: asked once, never wrong, whoever writes and whoever is killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lit_prm.answers import counted, told
from lit_prm.answers import workers as equivalence
from lit_prm.answers.verdict_cache import BUSY_PATIENCE, Verdicts, _rules, symbolically_equal
from lit_prm.answers.workers import PATIENCE, Pair, Verdict

Asked = list[tuple[Pair, float]]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verdict], Asked]:
    """Lets judges find the given verdict on everything, and says what they were asked."""

    def judge(verdict: Verdict) -> Asked:
        asked: Asked = []

        def ask(pairs: Sequence[Pair], timeout: float, patience: float) -> Iterator[Verdict]:
            for pair in pairs:
                asked.append((pair, timeout))
                yield verdict

        monkeypatch.setattr(equivalence, "verdicts", ask)
        return asked

    return judge


@pytest.mark.parametrize("verdict", [Verdict.EQUAL, Verdict.UNEQUAL])
def test_each_direction_of_a_pair_is_asked_once(
    verdict: Verdict, judged: Callable[[Verdict], Asked], tmp_path: Path
) -> None:
    asked = judged(verdict)
    pairs = [("x", "y"), ("y", "x"), ("x", "y\ud800\0"), ("x", "y")]
    for _ in range(2):
        assert Verdicts(tmp_path / "v").equal(pairs, 3) == [verdict is Verdict.EQUAL] * 4
    assert [pair for pair, _ in asked] == pairs[:3]


def test_undecided_is_asked_again_only_with_a_longer_limit(judged: Callable[[Verdict], Asked], tmp_path: Path) -> None:
    asked = judged(Verdict.UNDECIDED)
    for limit in (3, 3, 1, 5, 5, 3):
        assert Verdicts(tmp_path / "v").equal([("x", "y")], limit) == [False]
    assert [limit for _, limit in asked] == [3, 5]
    judged(Verdict.EQUAL)
    assert Verdicts(tmp_path / "v").equal([("x", "y")], 9) == [True]
    assert Verdicts(tmp_path / "v").equal([("x", "y")], 1) == [True]


def test_undecided_never_replaces_a_verdict(judged: Callable[[Verdict], Asked], tmp_path: Path) -> None:
    late, early = Verdicts(tmp_path / "v"), Verdicts(tmp_path / "v")
    judged(Verdict.EQUAL)
    early.equal([("x", "y")], 3)
    late._keep(next(iter(late_keys(late))), Verdict.UNDECIDED, 9)
    judged(Verdict.UNEQUAL)
    assert Verdicts(tmp_path / "v").equal([("x", "y")], 99) == [True]


def late_keys(verdicts: Verdicts) -> list[bytes]:
    return [key for (key,) in verdicts._file.execute("SELECT key FROM verdicts")]


def test_what_a_busy_machine_interrupted_is_asked_again_at_once_and_by_each_call(
    judged: Callable[[Verdict], Asked], tmp_path: Path
) -> None:
    asked = judged(Verdict.INTERRUPTED)
    mine = Verdicts(tmp_path / "v")
    with counted() as undecided:
        assert mine.equal([("x", "y")], 3) == mine.equal([("x", "y")], 3) == [False]
    assert undecided.count == 2
    assert len(asked) == 4
    judged(Verdict.EQUAL)
    with counted() as undecided:
        assert mine.equal([("x", "y")], 3) == [True]
    assert undecided.count == 0


def test_the_second_time_it_is_given_more_patience(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[float] = []

    def ask(pairs: Sequence[Pair], timeout: float, patience: float) -> Iterator[Verdict]:
        given.extend(patience for _ in pairs)
        return iter([Verdict.EQUAL if patience > PATIENCE else Verdict.INTERRUPTED] * len(pairs))

    monkeypatch.setattr(equivalence, "verdicts", ask)
    assert Verdicts(tmp_path / "v").equal([("x", "y")], 3) == [True]
    assert given == [PATIENCE, BUSY_PATIENCE]


def test_what_spent_its_limit_is_counted_also_when_it_is_remembered(
    judged: Callable[[Verdict], Asked], tmp_path: Path
) -> None:
    judged(Verdict.UNDECIDED)
    with counted() as undecided:
        for _ in range(2):
            Verdicts(tmp_path / "v").equal([("x", "y"), ("x", "z")], 3)
    assert undecided.count == 4


def test_the_count_is_told_and_silence_means_none(judged: Callable[[Verdict], Asked], tmp_path: Path) -> None:
    judged(Verdict.UNDECIDED)
    with (
        pytest.warns(UserWarning, match="labels of f: 1 comparisons of answers ended without a verdict"),
        told("labels of f"),
    ):
        Verdicts(tmp_path / "v").equal([("x", "y")], 3)
    judged(Verdict.UNEQUAL)
    with told("labels of f"):
        Verdicts(tmp_path / "v").equal([("x", "z")], 3)


def test_another_version_of_what_judges_asks_again(
    judged: Callable[[Verdict], Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(Verdict.EQUAL)
    Verdicts(tmp_path / "v").equal([("x", "y")], 3)
    assert "math-verify" in _rules()
    monkeypatch.setattr("lit_prm.answers.verdict_cache._rules", lambda: "newer")
    judged(Verdict.UNEQUAL)
    assert Verdicts(tmp_path / "v").equal([("x", "y")], 3) == [False]


def test_a_file_that_cannot_be_used_costs_a_warning(judged: Callable[[Verdict], Asked], tmp_path: Path) -> None:
    judged(Verdict.EQUAL)
    (tmp_path / "broken").write_bytes(b"no database at all" * 99)
    for place in (tmp_path / "broken", tmp_path / "broken" / "inside"):
        with pytest.warns(UserWarning, match="Delete that file, or set LIT_PRM_CACHE"):
            verdicts = Verdicts(place)
        assert verdicts.equal([("x", "y")], 3) == [True]


def test_the_folder_is_named_by_the_environment(
    judged: Callable[[Verdict], Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(Verdict.EQUAL)
    monkeypatch.setenv("LIT_PRM_CACHE", str(tmp_path / "a" / "b"))
    assert symbolically_equal([("x", "y")], 3) == [True]
    assert (tmp_path / "a" / "b" / "verdicts.sqlite").exists()


WRITER = """
import sys
from pathlib import Path
from lit_prm.answers import workers as equivalence
from lit_prm.answers.workers import Verdict
from lit_prm.answers.verdict_cache import Verdicts
equivalence.verdicts = lambda pairs, *_: [Verdict.EQUAL if len(a) % 2 else Verdict.UNEQUAL for a, _ in pairs]
verdicts = Verdicts(Path(sys.argv[1]))
print("writing", flush=True)
for i in range(10**6):
    assert verdicts.equal([("x" * (i % 999), str(i))], 3) == [bool(i % 999 % 2)]
"""


def test_processes_share_the_file_and_may_be_killed(tmp_path: Path) -> None:
    rng, file = random.Random(0), tmp_path / "v"
    command = [sys.executable, "-c", WRITER, str(file)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
    for writer in writers:
        time.sleep(rng.uniform(0.05, 0.3))
        assert writer.poll() is None, writer.communicate()
        writer.kill()
        writer.communicate()
    kept = sqlite3.connect(file)
    assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept.execute("SELECT count(*) FROM verdicts").fetchone()[0] > 10
    kept.close()
    done = subprocess.run([*command[:2], WRITER.replace("10**6", "200"), str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
