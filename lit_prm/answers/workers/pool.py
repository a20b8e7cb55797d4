"""Workers that answer questions of equality: children with pipes, started when needed, shared by threads."""

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
from functools import lru_cache
from typing import IO

from lit_prm.answers.workers.supervisor import PATIENCE, next_line
from lit_prm.answers.workers.verdict import Verdict

START_SECONDS = 120.0  # importing sympy on a busy machine; not part of anyone's time limit
MANY = 32  # questions at once that are worth a second worker's start

Pair = tuple[str, str]


def verdicts(pairs: Sequence[Pair], timeout: float) -> Iterator[Verdict]:
    """Verdicts in order as they come, each with ``timeout`` seconds; any thread and any forked process may ask."""
    return _pool(os.getpid()).ask(pairs, timeout)


@lru_cache(maxsize=1)
def _pool(pid: int) -> WorkerPool:
    return WorkerPool(os.cpu_count() or 1)  # one per process: after a fork, parent and child share no pipes


class WorkerPool:
    """Workers that are started when they are needed, at most ``size``; threads wait for a free one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = threading.Semaphore(size)
        self._idle: list[Worker] = []

    def ask(self, pairs: Sequence[Pair], timeout: float) -> Iterator[Verdict]:
        if len(pairs) < MANY:
            yield from (self._one(pair, timeout) for pair in pairs)
            return
        with ThreadPoolExecutor(self._size) as threads:
            yield from threads.map(self._one, pairs, [timeout] * len(pairs))

    def _one(self, pair: Pair, timeout: float) -> Verdict:
        with self._borrowed() as worker:
            return worker.ask(*pair, timeout)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Worker]:
        with self._free:
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = Worker()
            try:
                yield worker
            finally:
                self._idle.append(worker)


class Worker:
    """One long-lived child process, which forks a judge and replaces it in milliseconds when it had to kill it.

    A plain child with pipes, not ``multiprocessing``: it does not import the caller's main module, it may be
    started from a daemonic loader worker, and it needs no signal handler, so any thread may ask.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    def ask(self, a: str, b: str, timeout: float) -> Verdict:
        """Whether math-verify calls two LaTeX answers equal, in either order."""
        with self._lock:
            child = self._child if self._child and self._child.poll() is None else self._start()
            request = json.dumps([a, b, timeout]).encode() + b"\n"
            with contextlib.suppress(BrokenPipeError):
                _pipe(child.stdin).write(request)
            reply = next_line(_pipe(child.stdout), timeout + 10 * PATIENCE)
            if not reply:
                self.close()
            return Verdict(reply.strip() or b"!")

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        self._child = child = subprocess.Popen(
            [sys.executable, "-c", "from lit_prm.answers.workers.supervisor import supervise; supervise()"],
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
                f"the answer checker said {greeting.decode().strip()!r} instead of 'ready' within {START_SECONDS} s; "
                "pip install 'math-verify[antlr4_13_2]' in this environment"
            )
        return child

    def close(self) -> None:
        """Kill the child and reap it; nothing in a forked copy, which does not own it."""
        child, self._child = self._child, None
        if child is None or os.getpid() != self._owner:
            return
        child.kill()  # its judge reads the end of its questions, or dies of its own alarm
        child.wait()
        _pipe(child.stdin).close()
        _pipe(child.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
