"""Worker processes: each makes many runs one after the other and sends all output of a run to its log."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from lit_prm.commands.paper.schedule import SeededRun

RunJob = Callable[[SeededRun], None]
PATIENCE = 60.0  # seconds that a stopped run has to write its checkpoint


class RunProcess:
    """A worker process in its own process group, so that Ctrl-C reaches it once: by ``stop``."""

    def __init__(self, run: RunJob, log: Callable[[SeededRun], Path]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, run, log))
        self.process.start()
        self.dead = False
        theirs.close()  # the process has its own; else its death would not be seen here

    def begin(self, job: SeededRun) -> None:
        """Send a job to the idle worker; if the worker has died, ``outcome`` is False."""
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(job)

    def outcome(self) -> bool:
        """Wait for the job; True if it ended well, False if it failed or the process died."""
        try:
            return bool(self.connection.recv())
        except (EOFError, ConnectionResetError):
            self.dead = True
            return False

    def close(self) -> None:
        """End the idle process."""
        self.connection.close()
        self.process.join(PATIENCE)
        for end in (self.process.terminate, self.process.kill):
            if self.process.is_alive():
                end()
                self.process.join(10)

    def stop(self) -> None:
        """Send Ctrl-C to the process and its children."""
        if self.process.is_alive() and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGINT)


def serve(connection: Connection, run: RunJob, log: Callable[[SeededRun], Path]) -> None:
    """Run every job that comes through ``connection`` until it closes."""
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
    with contextlib.suppress(EOFError, KeyboardInterrupt, ConnectionError):
        while True:
            job = connection.recv()
            with logged(log(job)):
                well = _ends_well(run, job)
            connection.send(well)
            gc.collect()  # trainer and model refer to each other


def _ends_well(run: RunJob, job: SeededRun) -> bool:
    """True if the job, as a process of its own, would have exited with status 0; errors are printed."""
    try:
        run(job)
    except SystemExit as ended:
        return not ended.code
    except KeyboardInterrupt:
        return False
    except Exception:
        traceback.print_exc()
        return False
    return True


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Append to ``path`` all that this process or its children write to stdout or stderr."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    try:
        with path.open("ab") as file:
            _turn(file.fileno(), file.fileno())
        yield
    finally:
        _turn(*kept)
        for copy in kept:
            os.close(copy)


def _turn(out: int, err: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(out, 1)
    os.dup2(err, 2)


def tail(path: Path, lines: int = 8) -> str:
    """The last lines that are not blank, indented."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join(f"    {line}" for line in [line for line in text.splitlines() if line.strip()][-lines:])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM both raise KeyboardInterrupt, also in a background job."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
