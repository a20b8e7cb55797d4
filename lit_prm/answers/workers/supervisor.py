"""The supervisor: forks a judge process, kills it at the time limit and replaces it in milliseconds."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import IO, NoReturn

from lit_prm.answers.workers.verdict import Verdict

Compare = Callable[[str, str], bool]
PATIENCE = 0.5  # wall-clock seconds added to the limit, which is in processor seconds, unless the request has others


def supervise(same: Compare | None = None) -> None:
    """Answer requests from stdin, one line each, until it closes. Only the forked judges parse answers.

    ``same`` compares a gold answer with a candidate: without it, math-verify does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process only
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not reach the pipe
    try:
        from lit_prm.answers.workers import judge

        can_read = judge.same(r"\frac{x}{2}", "0.5x")  # imports sympy and builds the grammar tables
        trouble = "" if can_read else "the LaTeX grammar and its antlr4 runtime do not fit together"
    except ImportError as error:
        trouble = str(error)
    if trouble:
        replies.write(f"{trouble}\n".encode())
        return
    replies.write(b"ready\n")
    judge_all = partial(judge.judge_all, same or judge.same)
    process = JudgeProcess(judge_all, replies)
    for line in sys.stdin.buffer:
        if (verdict := process.verdict(line)) is None:
            process = JudgeProcess(judge_all, replies)
            verdict = process.verdict(line) or Verdict.UNDECIDED  # it left without an answer
        replies.write(verdict.value + b"\n")


class JudgeProcess:
    """A fork of the supervisor that compares answers; it holds no pipe of the calling process."""

    def __init__(self, judge_all: Callable[[IO[bytes], int], NoReturn], replies: IO[bytes]) -> None:
        questions, self._ask = os.pipe()
        answers, answer = os.pipe()
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                for ours in (0, replies.fileno(), self._ask, answers):
                    os.close(ours)
                judge_all(os.fdopen(questions, "rb"), answer)
            finally:
                os._exit(1)  # a fork never continues as a supervisor
        os.close(questions)
        os.close(answer)

    def verdict(self, line: bytes) -> Verdict | None:
        """Verdict within the limit; None if the judge has retired or was killed, and a new judge must answer."""
        if self._ask < 0:
            return None
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ask, line)
        _, _, timeout, patience = json.loads(line)
        reply = next_line(self._answers, timeout + patience)
        return Verdict(reply.strip()) if reply else self._end()

    def _end(self) -> Verdict | None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._ask)
        self._answers.close()
        self._ask = -1
        if status == 0:
            return None
        return Verdict.INTERRUPTED if status == -signal.SIGKILL else Verdict.UNDECIDED


def next_line(out: IO[bytes], timeout: float) -> bytes:
    """The next line that a process writes; empty after ``timeout`` seconds or if the process is dead."""
    ready, _, _ = select.select([out], [], [], timeout)
    return out.readline() if ready else b""
