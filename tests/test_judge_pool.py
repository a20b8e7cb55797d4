"""Laws of the pool of judges: answers in order, from any thread and any fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from lit_prm.answers.workers import Verdict, pool, verdicts
from lit_prm.answers.workers.pool import MANY, WorkerPool


def test_many_questions_are_answered_in_order_by_few_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(2)
    pairs = [(f"x+{i}", f"{i}+x" if i % 3 else f"{i}-x") for i in range(MANY + 8)]
    assert list(pool.ask(pairs[:2], 30)) == [Verdict.UNEQUAL, Verdict.EQUAL]
    assert len(pool._idle) == 1  # two questions are not worth a second one
    found = list(pool.ask(pairs, 30))
    assert [v is Verdict.EQUAL for v in found] == [bool(i % 3) for i in range(MANY + 8)]
    assert len(pool._idle) == 2
    for worker in pool._idle:
        worker.close()


def test_any_thread_and_any_fork_may_ask() -> None:
    found: dict[int, list[Verdict]] = {}

    def ask(row: int) -> None:
        found[row] = list(verdicts([(f"x+{row}", f"{row}+x"), (f"x+{row}", f"{row}-x")], 30))

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [[Verdict.EQUAL, Verdict.UNEQUAL]] * 8
    code = (
        "import os; from lit_prm.answers.workers import verdicts\n"
        "list(verdicts([('x', '2x')], 30)); pid = os.fork()\n"
        "print(*[v.name for v in verdicts([('x+1', '1+x')], 30)], flush=True)\n"
        "pid and os.waitpid(pid, 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.returncode) == (["EQUAL", "EQUAL"], 0), done.stderr
    assert pool._pool(os.getpid()) is pool._pool(os.getpid())
