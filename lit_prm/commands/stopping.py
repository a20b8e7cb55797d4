"""Ends a command that a signal stops: with the signal's exit status, and with a line that says how to resume."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from callbacks import SafeStop
from callbacks.stop_signals import Stopped


@contextmanager
def exit_when_stopped(trainer: Trainer) -> Iterator[None]:
    """End the process with the signal's exit status if a signal stops the trainer inside; say how to resume.

    Rank zero also writes the status into the file that the environment variable LIT_PRM_STOPPED names: the exit status
    of a launcher (torchrun) is its own.
    """
    safe = next((c for c in trainer.checkpoint_callbacks if isinstance(c, SafeStop)), SafeStop())
    try:
        with safe.listening(trainer):
            yield
    except Stopped as stopped:
        rank_zero_only(print)("stopped; the same command resumes the run", file=sys.stderr)
        if (file := os.environ.get("LIT_PRM_STOPPED")) and trainer.is_global_zero:
            Path(file).write_text(f"{stopped.code}\n")
        raise SystemExit(stopped.code) from None
