"""Symbolic equality of two answers, judged by math-verify in a worker process that can be killed."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from functools import lru_cache
from typing import IO, Any

START_SECONDS = 120.0  # importing sympy on a busy machine; not part of anyone's time limit
MEMORY_BYTES = 4 * 2**30  # 10^10^10 must not take the machine down


def symbolically_equal(a: str, b: str, timeout: float) -> bool:
    """Whether math-verify calls two LaTeX answers equal, in either order; a time-out or crash is a no."""
    return _worker(os.getpid()).ask(a, b, timeout)


@lru_cache(maxsize=1)
def _worker(pid: int) -> Worker:
    return Worker()  # one per process: after a fork, parent and child must not share its pipes


class Worker:
    """One long-lived child process; killed when it is late, started again when next asked.

    A plain child with pipes, not ``multiprocessing``: it does not import the caller's main module, it may be
    started from a daemonic loader worker, and it needs no signal handler, so any thread may ask.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    def ask(self, a: str, b: str, timeout: float) -> bool:
        with self._lock:
            child = self._child if self._child and self._child.poll() is None else self._start()
            request = json.dumps([a, b, timeout]).encode() + b"\n"
            with contextlib.suppress(BrokenPipeError):
                _pipe(child.stdin).write(request)
            reply = _line(child, timeout)
            if not reply:
                self.close()
            return reply == b"1\n"

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        self._child = child = subprocess.Popen(
            [sys.executable, "-c", "from lit_prm.equivalence import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its log lines would interleave with the caller's progress bars
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        )
        greeting = _line(child, START_SECONDS)
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
        child.kill()
        child.wait()
        _pipe(child.stdin).close()
        _pipe(child.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _line(child: subprocess.Popen[bytes], timeout: float) -> bytes:
    """The child's next line, or nothing when it is late or dead."""
    out = _pipe(child.stdout)
    ready, _, _ = select.select([out], [], [], timeout)
    return out.readline() if ready else b""


# ---- in the child -------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests from stdin until it closes; one line per request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which may want to finish a step
    _limit_memory()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library that prints must not speak in our place
    try:
        _same("x", "x + 0")  # imports, and builds the grammar tables
    except ImportError as error:
        print(error, file=replies)
        return
    print("ready", file=replies)
    for line in sys.stdin:
        a, b, timeout = json.loads(line)
        faulthandler.dump_traceback_later(timeout + 1, exit=True)  # dies by itself if the parent was killed
        print(int(_same(a, b)), file=replies)
        faulthandler.cancel_dump_traceback_later()


def _limit_memory() -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):  # a lower limit already holds, or none exists here
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _same(a: str, b: str) -> bool:
    """math-verify's verdict. For relations and sets its order matters (the gold answer first): either may say yes."""
    from math_verify import verify
    from sympy import Expr

    first, second = _parsed(a), _parsed(b)
    if not first or not second:
        return False
    orders = ((first, second), (second, first))
    plain = isinstance(first[0], Expr) and isinstance(second[0], Expr)
    return any(verify(x, y, timeout_seconds=None) for x, y in orders[: 1 if plain else 2])


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> list[Any]:
    """The sympy reading of a LaTeX answer, empty when it has none.

    Only the LaTeX grammar reads model output: math-verify's plain-expression reader ends in sympy's
    ``parse_expr``, which evaluates Python. Its timers are off because they use SIGALRM; ours kill.
    """
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    readers = [LatexExtractionConfig(boxed_match_priority=0)]
    found = parse(f"\\boxed{{{answer}}}", readers, fallback_mode="no_fallback", parsing_timeout=None)
    return list(found)
