"""Processes that are forks of the test's own, which has imported what takes ten seconds of a processor."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import NoReturn, TextIO


class Fork:
    """A process that does ``work`` with additions to its environment; it prints into two files of ``folder``.

    It ends as a command does: with status 0, with that of a SystemExit, or with 1 and a traceback. Warnings are errors
    in it where they are in the test.
    """

    def __init__(self, work: Callable[[], object], folder: Path, **environment: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded")
            self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(environment)
            self._do(work)

    def ended(self, seconds: float = 300) -> CompletedProcess[str]:
        """The exit status of the fork, or minus the number of the signal that ended it; a late fork is killed."""
        late = time.monotonic() + seconds
        while (found := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > late:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.02)
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        return CompletedProcess(str(self.folder), os.waitstatus_to_exitcode(found[1]), out, err)

    def _do(self, work: Callable[[], object]) -> NoReturn:
        status = 1
        try:
            sys.stdout, sys.stderr = (_opened(self.folder / name, fd) for name, fd in (("out", 1), ("err", 2)))
            work()
            status = 0
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # a fork never goes on as a test


def _opened(file: Path, descriptor: int) -> TextIO:
    """Line-buffered, and in the place of a descriptor, for what is not written by Python."""
    opened = file.open("w", buffering=1)
    os.dup2(opened.fileno(), descriptor)
    return opened
