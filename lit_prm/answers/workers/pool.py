"""Pool of worker processes that compare answers: started on demand, shared by threads, connected by pipes."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import IO

from lit_prm.answers.workers.supervisor import PATIENCE, next_line
from lit_prm.answers.workers.verdict import Verdict

START_SECONDS = 120.0  # to import sympy on a busy machine; no part of a comparison's time limit
SUPERVISE = "from lit_prm.answers.workers.supervisor import supervise; supervise()"
MANY = 32  # pairs in one call from which a second worker is worth its start

Pair = tuple[str, str]  # gold answer, candidate


def verdicts(pairs: Sequence[Pair], timeout: float, patience: float = PATIENCE) -> Iterator[Verdict]:
    """Yield the verdict of each pair (gold, candidate) in order; safe in threads and after a fork.

    A comparison may take ``timeout`` seconds of processor time and ``patience`` more of wall-clock time.
    """
    return _pool(os.getpid()).ask(pairs, timeout, patience)


@lru_cache(maxsize=1)
def _pool(pid: int) -> WorkerPool:
    return WorkerPool(os.cpu_count() or 1)  # one per process: after a fork, parent and child share no pipes


class WorkerPool:
    """At most ``size`` workers, started on demand; a thread waits for a free worker."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = threading.Semaphore(size)
        self._idle: list[Worker] = []

    def ask(self, pairs: Sequence[Pair], timeout: float, patience: float = PATIENCE) -> Iterator[Verdict]:
        one = partial(self._one, timeout, patience)
        if len(pairs) < MANY:
            yield from map(one, pairs)
            return
        with ThreadPoolExecutor(self._size) as threads:
            yield from threads.map(one, pairs)

    def _one(self, timeout: float, patience: float, pair: Pair) -> Verdict:
        with self._free:
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = Worker()
            try:
                return worker.ask(*pair, timeout, patience)
            finally:
                self._idle.append(worker)


class Worker:
    """One long-lived child process, the supervisor, which forks a judge and replaces a killed judge in milliseconds.

    The child is a ``subprocess`` with pipes, not a ``multiprocessing`` process: it does not import the caller's main
    module, daemonic workers of a DataLoader may start it, and it needs no signal handler, so any thread may use it.
    """

    def __init__(self, code: str = SUPERVISE) -> None:
        self._lock = threading.Lock()
        self._code = code
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    def ask(self, gold: str, candidate: str, timeout: float, patience: float = PATIENCE) -> Verdict:
        """Verdict of math-verify on a LaTeX answer, given the gold answer."""
        with self._lock:
            child = self._child if self._child and self._child.poll() is None else self._start()
            request = json.dumps([gold, candidate, timeout, patience]).encode() + b"\n"
            with contextlib.suppress(BrokenPipeError):
                _pipe(child.stdin).write(request)
            reply = next_line(_pipe(child.stdout), timeout + patience + 9 * PATIENCE)
            if not reply:
                self.close()
            return Verdict(reply.strip() or b"!")

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        self._child = child = subprocess.Popen(
            [sys.executable, "-c", self._code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its log lines would interleave with the caller's progress bars
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        )
        greeting = next_line(_pipe(child.stdout), START_SECONDS)
        if greeting != b"ready\n":
            self.close()
            raise RuntimeError(
                f"The worker that compares answers did not start within {START_SECONDS} s: it wrote "
                f"{greeting.decode().strip()!r}, not 'ready'. Run pip install 'math-verify[antlr4_13_2]'."
            )
        return child

    def close(self) -> None:
        """Kill the child and wait for its end; does nothing in a forked process, which does not own the child."""
        child, self._child = self._child, None
        if child is None or os.getpid() != self._owner:
            return
        child.kill()  # its judge reads the end of the pipe, or its own timer kills it
        child.wait()
        _pipe(child.stdin).close()
        _pipe(child.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
