"""RollCall: the ranks of a run notice that one of them died or was stopped, name it, and end."""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from subprocess import Popen

import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, subprocess_script

_BEATS = 150  # signs of life within the silence that is allowed
_SOON = 5  # beats of silence that are allowed once an operation of all ranks has failed
_BROKEN = re.compile(r"gloo|pair closure|NCCL", re.IGNORECASE)  # in the errors of such operations
_DONE = "done"  # the last sign of a rank that needs the others no more


class RollCall:
    """Every rank shows signs of life in the store of the process group, and looks for those of the others.

    Otherwise a stopped rank holds the others for half an hour, the limit of torch's operations, and a rank that dies
    leaves them a traceback from inside gloo. Here the first rank that is alive prints one line, which names the lost
    rank, and each rank ends with status 1. A rank is lost after

    - ``silence`` seconds without a sign: by default those of the environment variable LIT_PRM_SILENCE, or 300;
    - a thirtieth of them (10 of 300) if an operation of all ranks has failed here;
    - a thirtieth too if this rank started it and a signal ended it, or it ended at all before all ranks had met.

    A rank counts its own signs meanwhile, not the clock, so a computer that sleeps, or Ctrl-Z of all ranks, loses none.

    A rank that is alive but hangs is not noticed; the limit of torch's operations bounds it. A run of one process has
    no roll call.
    """

    def __init__(self, trainer: Trainer, silence: float | None = None) -> None:
        self._trainer = trainer
        self._beat = (_allowed_silence() if silence is None else silence) / _BEATS
        self._limit = _BEATS
        self._failed = False
        self._left = threading.Event()
        self._signs: list[str] = []  # the last sign of each rank
        # two threads, because no timeout ends a question to the store of a stopped process
        self._messenger = threading.Thread(target=self._exchange, name="signs-of-life", daemon=True)
        self._judge = threading.Thread(target=self._look, name="roll-call", daemon=True)

    def start(self) -> None:
        """Begin as soon as the process group exists, and go on to the end of the process."""
        forked = isinstance(self._trainer.strategy.launcher, _MultiProcessingLauncher)  # which watches its processes
        if self._trainer.world_size > 1 and not forked:
            # Lightning's observer of the processes that it started would end this one by SIGKILL, without a word
            subprocess_script._launch_process_observer = lambda child_processes: None  # type: ignore[attr-defined]
            atexit.register(self._leave)
            self._judge.start()

    def explain(self, error: Exception) -> None:
        """End the process with the line on a lost rank if that is the reason for ``error``; else return."""
        if self._judge.is_alive() and _BROKEN.search(str(error)):
            self._limit = _SOON
            self._judge.join()
        self._failed = True
        self._left.set()

    def _leave(self) -> None:
        self._left.set()
        if self._messenger.is_alive():
            self._messenger.join(3 * self._beat)

    def _exchange(self) -> None:
        names, number = [f"roll-call/{rank}" for rank in range(len(self._signs))], 0
        own = names[dist.get_rank()]
        failures = 0
        store = dist.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]
        while not self._left.wait(self._beat) and failures < _SOON:
            try:
                store.set(own, str(number := number + 1))
                for rank, name in enumerate(names):
                    if store.check([name]):
                        self._signs[rank] = store.get(name).decode()
                failures = 0
            except RuntimeError:  # once, the network; again and again, the process that holds the store has ended
                failures += 1
        if not self._failed:  # otherwise the others shall name this rank
            with suppress(RuntimeError):
                store.set(own, _DONE)
                if own == names[0]:  # it may hold the store: the others read the last sign first
                    time.sleep(1.5 * self._beat)

    def _look(self) -> None:
        rank, silent = self._trainer.global_rank, [0] * self._trainer.world_size
        while not dist.is_initialized():
            if self._left.wait(self._beat):
                return
            silent = [beats + bool(code) for beats, code in zip(silent, self._codes(), strict=True)]
            self._end_if_lost(rank, silent)
        self._signs = [""] * len(silent)
        self._messenger.start()
        before, last_beats = list(self._signs), 4 * _SOON  # in which a lost rank is found after a failure
        while not self._left.wait(self._beat) and last_beats:
            last_beats -= self._limit == _SOON
            now = list(self._signs)
            for other, sign in enumerate(now):
                heard = other == rank or sign == _DONE or sign != before[other]
                silent[other] = 0 if heard else silent[other] + 1
            before = now
            if now[0] == _DONE and not self._messenger.is_alive():  # the store ended with the process that holds it
                return
            self._end_if_lost(rank, silent)

    def _codes(self) -> list[int | None]:
        """How each rank ended that this process started; None for the others and those that run."""
        codes = dict(enumerate((child.poll() for child in self._children()), self._trainer.global_rank + 1))
        return [codes.get(rank) for rank in range(self._trainer.world_size)]

    def _end_if_lost(self, rank: int, silent: Sequence[int]) -> None:
        codes, starting = self._codes(), not dist.is_initialized()
        at_once = [code is not None and (code < 0 or (code > 0 and starting)) for code in codes]
        lost = [r for r, beats in enumerate(silent) if beats >= (_SOON if at_once[r] else self._limit)]
        if not lost:
            return
        first = all(r in lost for r in range(rank))
        if not first and silent[lost[0]] < self._limit + _SOON:  # leave time to the one that prints
            return
        try:
            if first:
                named = lost[:1] if len(lost) == len(silent) - 1 else lost  # all are silent if the store's process is
                print(_line(named, codes[named[0]], silent[named[0]] * self._beat), file=sys.stderr, flush=True)
            sys.stdout.flush()
        finally:  # also where nobody reads any more
            for child in self._children():
                child.kill()
            os._exit(1)

    def _children(self) -> list[Popen[bytes]]:
        """The processes of the following ranks, if this one started them."""
        return getattr(self._trainer.strategy.launcher, "procs", [])


def _line(lost: Sequence[int], code: int | None, seconds: float) -> str:
    one = len(lost) == 1
    so = "it is" if one else "they are"
    how = f"gave no sign of life for {seconds:.0f} s, so {so} stopped, dead or unreachable"
    if code is not None:
        how = f"ended with status {code}" if code >= 0 else f"was ended by {_signal(-code)}"
    who = f"rank {lost[0]}" if one else f"ranks {', '.join(map(str, lost))}"
    hint = " (the kernel does so when memory is full)" if code == -signal.SIGKILL else ""
    them = "it" if one else "them"
    return f"error: {who} {how}{hint}, and the other ranks cannot go on without {them}. The same command goes on."


def _signal(number: int) -> str:
    with suppress(ValueError):  # real-time signals have no names
        return signal.Signals(number).name
    return f"signal {number}"


def _allowed_silence() -> float:
    given = os.environ.get("LIT_PRM_SILENCE", "300")
    with suppress(ValueError):
        if 0 < float(given) < threading.TIMEOUT_MAX:
            return float(given)
    raise ValueError(f"LIT_PRM_SILENCE={given} is not a number of seconds above 0. Set it to seconds, for example 300")
