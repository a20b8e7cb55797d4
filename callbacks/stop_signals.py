"""Signals that end a run: taken over for a while, noted, and handed back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from lightning import Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import get_worker_info

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

Handler = Callable[[int, FrameType | None], None]


class Stopped(SIGTERMException):
    """A signal ended the run. The exit status is 128 + the signal's number: 130 (INT), 138 (USR1) or 143 (TERM)."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class StopSignals:
    """The handler of SIGINT, SIGTERM and SIGUSR1 while a run may be stopped by them.

    While ``deferred`` is True the handler only notes the first signal in ``received``, and a second Ctrl-C raises
    ``Stopped``. Otherwise every first signal raises ``Stopped`` at once. SIGTERM and SIGUSR1 are passed on to the
    processes that the trainer launched; a terminal sends Ctrl-C to all of them itself.
    """

    def __init__(self) -> None:
        self.received: int | None = None  # number of the first signal
        self.deferred = False
        self._handlers: dict[int | signal.Signals, Handler] = {}
        self.before: dict[int | signal.Signals, Any] = {}  # the handlers to give back

    def start(self, trainer: Trainer, numbers: Iterable[signal.Signals] = SIGNALS) -> None:
        """Take the signals that the process does not ignore.

        Does nothing outside the main thread, the only one that Python lets handle signals.
        """
        self.received = None
        if threading.current_thread() is not threading.main_thread():
            return
        process = os.getpid()

        def note(number: int, _: FrameType | None) -> None:
            if os.getpid() == process:
                self._note(number, trainer)
            elif get_worker_info() is None or number != signal.SIGINT:  # a forked process; workers outlive Ctrl-C
                raise Stopped(number)

        before = {number: signal.getsignal(number) for number in numbers}
        self.before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
        self._handlers = dict.fromkeys(self.before, note)
        self.take()

    def take(self) -> None:
        """Put the handlers before those that Lightning has registered since ``start``.

        Lightning's handler of SIGTERM talks to other ranks from within whatever they do.
        """
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def end(self) -> None:
        """Give the signals back to the handlers they had before ``start``."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.deferred, self._handlers, self.before = False, {}, {}

    def _note(self, number: int, trainer: Trainer) -> None:
        again, self.received = self.received is not None, self.received or number
        if number != signal.SIGINT and not again and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(number)
        if (again and number == signal.SIGINT) or not (again or self.deferred):
            raise Stopped(number)


def signals_to_take(trainer: Trainer) -> tuple[signal.Signals, ...]:
    """All of ``SIGNALS``, but Ctrl-C alone in a SLURM job that Lightning requeues: it uses the others for that."""
    environment = trainer._accelerator_connector.cluster_environment
    requeued = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
    return (signal.SIGINT,) if requeued else SIGNALS
