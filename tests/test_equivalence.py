"""Laws of the judges: late ones are killed and replaced, any thread may ask, nothing outlives anybody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from lit_prm.answers.workers import Verdict, judge, pool
from lit_prm.answers.workers.pool import Worker
from lit_prm.answers.workers.supervisor import PATIENCE, next_line
from tests.stand_in_judges import ALLOCATE, EXIT, FORK, LEAVE, SLEEP, SPIN, SUPERVISE, WRITE


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    worker = Worker(SUPERVISE)
    yield worker
    worker.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(SUPERVISE)
    yield worker
    worker.close()


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def wait_until(true: Callable[[], bool]) -> None:
    """Five minutes at most, so that what never comes true fails and a slow machine does not."""
    for _ in range(300 * 50):
        if true():
            return
        time.sleep(0.02)
    pytest.fail("waited in vain")


def noted_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that workers are waited for from now on."""
    waited: list[float] = []

    def noted(out: IO[bytes], timeout: float) -> bytes:
        waited.append(timeout)
        return next_line(out, timeout)

    monkeypatch.setattr(pool, "next_line", noted)
    return waited


def pid_of(worker: Worker) -> int:
    assert worker._child is not None
    return worker._child.pid


# ---- the judge ----


def test_the_judges_own_verdict() -> None:
    assert judge.same(r"\frac{2}{4}", "0.5") is True
    assert judge.same("x > 2", "2 < x") is True
    assert judge.same(r"\frac{", "1") is False
    assert judge.same("1} and 2", "1") is False  # math-verify reads what stands in the box around it
    assert judge.same(r"\{1,2\}", r"\{2,1\}") is True


def test_no_parser_that_runs_python_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("parse_expr evaluates Python")

    monkeypatch.setattr("math_verify.parser.parse_expr", refuse)
    assert judge.same("17x + y", "y + 17x") is True
    assert judge.same("name", "other name") is False


HARMS = [
    "open({path!r}, 'w')", "open({path!r}, 'a')", "os.open({path!r}, os.O_WRONLY | os.O_CREAT)", "os.system('true')",
    "subprocess.run(['true'])", "os.fork()", "os.kill(os.getppid(), 0)", "os.remove({path!r})", "os.mkdir({path!r})",
    "socket.create_connection(('127.0.0.1', 9))", "eval('1 .__class__')", "exec('import os')",
]  # fmt: skip


def test_a_judge_can_do_no_harm(tmp_path: Path) -> None:
    """Were code run in spite of everything, it would be refused what harms; what sympy needs goes on."""
    harms = [harm.format(path=str(tmp_path / "trace")) for harm in HARMS]
    tried = "\n".join(
        f"try: {harm}\nexcept PermissionError: pass\nexcept Exception as e:\n"
        f" assert 'while comparing' in repr(e), ({harm!r}, repr(e))\nelse: raise AssertionError({harm!r})"
        for harm in harms
    )
    code = (
        "import os, socket, subprocess, sympy\nfrom lit_prm.answers.workers import judge\n"
        f"judge.same('x', '2x')\njudge._harmless()\n{tried}\nassert judge.same('14 + x', 'x + 14')\n"
        "assert str(sympy.sympify('sqrt(196)/50')) == '7/25'\nos.write(1, b'unharmed')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("unharmed", 0), done.stderr
    assert list(tmp_path.iterdir()) == []


# ---- the worker ----


def test_a_question_that_spends_its_limit_is_undecided_and_the_next_answered(
    shared: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would spin for a minute: that the limit is spent sooner is the guard's doing.

    A judge that gets a twenty-fifth of a processor spends so small a limit before it is interrupted.
    """
    assert shared.ask("a+b", "b+a", 30) is Verdict.EQUAL
    supervisor = pid_of(shared)
    waited = noted_waits(monkeypatch)
    found = set()
    for _ in range(100):
        judges = children(supervisor)
        found.add(shared.ask(SPIN, "x", 0.02))
        assert not any(_lives(pid) for pid in judges)
        if Verdict.UNDECIDED in found:
            break
    assert set(waited) == {0.02 + 10 * PATIENCE}
    assert found - {Verdict.INTERRUPTED} == {Verdict.UNDECIDED}  # a busy machine interrupts some
    assert shared.ask("a+b", "b+a", 30) is Verdict.EQUAL
    assert pid_of(shared) == supervisor  # sympy was not imported again


def test_a_judge_that_was_not_let_work_is_interrupted(shared: Worker) -> None:
    shared.ask("a+b", "b+a", 30)
    (pid,) = children(pid_of(shared))
    os.kill(pid, signal.SIGSTOP)
    assert shared.ask("2a", "a+a", 0.2) is Verdict.INTERRUPTED
    assert shared.ask("2a", "a+a", 30) is Verdict.EQUAL


def test_a_judge_that_crashes_is_undecided_and_one_that_is_killed_interrupted(shared: Worker) -> None:
    for number, verdict in ((signal.SIGSEGV, Verdict.UNDECIDED), (signal.SIGKILL, Verdict.INTERRUPTED)):
        shared.ask("a+b", "b+a", 30)
        (pid,) = children(pid_of(shared))
        killer = threading.Timer(0.3, os.kill, (pid, number))
        killer.start()
        assert shared.ask(SPIN, "x", 10) is verdict
        killer.join()
    assert shared.ask("2a", "a+a", 30) is Verdict.EQUAL


@pytest.mark.parametrize("order", [ALLOCATE, FORK, WRITE, EXIT, LEAVE])
def test_a_judge_that_misbehaves_is_undecided_and_replaced(order: str, shared: Worker, tmp_path: Path) -> None:
    assert shared.ask(order, str(tmp_path / "trace"), 30) is Verdict.UNDECIDED
    assert shared.ask("2a", "a+a", 30) is Verdict.EQUAL
    assert list(tmp_path.iterdir()) == []


def test_a_judge_that_sleeps_is_interrupted_after_the_patience_of_the_request(
    shared: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = noted_waits(monkeypatch)
    assert shared.ask(SLEEP, "x", 0.1, 0.2) is Verdict.INTERRUPTED
    assert {0.1 + 0.2 + 9 * PATIENCE} <= set(waited)


def test_dying_often_costs_the_asking_process_nothing(shared: Worker) -> None:
    shared.ask(SPIN, "x", 0.02)
    opened, supervisor = len(os.listdir("/proc/self/fd")), pid_of(shared)
    for _ in range(30):
        assert shared.ask(SPIN, "x", 0.02) is not Verdict.EQUAL
    assert pid_of(shared) == supervisor  # a new judge is a fork of it, not an import
    assert len(os.listdir("/proc/self/fd")) == opened
    assert len(children(pid_of(shared))) <= 1
    assert len(os.listdir(f"/proc/{pid_of(shared)}/fd")) < 16


def test_a_judge_retires_and_nobody_notices() -> None:
    code = "from lit_prm.answers.workers import judge, supervisor; judge.QUESTIONS = 2; supervisor.supervise()"
    questions = "".join(json.dumps(["x+1", f"{i}+x", 30, 1]) + "\n" for i in range(7))
    done = subprocess.run([sys.executable, "-c", code], input=questions, capture_output=True, text=True)
    assert done.stdout.split() == ["ready", *"0100000"]


def test_a_worker_that_died_between_questions_is_replaced(worker: Worker) -> None:
    assert worker.ask("a+b", "b+a", 30) is Verdict.EQUAL
    os.kill(pid_of(worker), signal.SIGKILL)
    assert worker._child is not None
    worker._child.wait()
    assert worker.ask("2a", "a+a", 30) is Verdict.EQUAL


def test_a_judge_that_lost_its_supervisor_computes_no_longer_than_the_limit(worker: Worker) -> None:
    worker.ask("a+b", "b+a", 30)
    supervisor = pid_of(worker)
    (pid,) = children(supervisor)
    killer = threading.Timer(0.3, os.kill, (supervisor, signal.SIGKILL))
    killer.start()
    assert worker.ask(SPIN, "x", 1) in (Verdict.INTERRUPTED, Verdict.UNDECIDED)
    killer.join()
    wait_until(lambda: not _lives(pid))


def test_nothing_outlives_an_asking_process_that_is_killed() -> None:
    code = f"from lit_prm.answers.workers.pool import Worker; w = Worker({SUPERVISE!r}); w.ask('x', '2x', 30); print(w._child.pid, flush=True); w.ask({SPIN!r}, 'x', 2)"  # noqa: E501
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    supervisor = int(asking.stdout.readline())
    wait_until(lambda: bool(children(supervisor)))
    everybody = [supervisor, *children(supervisor)]
    asking.kill()
    asking.wait()
    asking.stdout.close()
    wait_until(lambda: not any(_lives(pid) for pid in everybody))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_that_cannot_start_names_the_remedy(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="pip install"):
        worker.ask("1", "2", 1)
