"""Progress of many runs: a bar for all, a line per worker, and a printed line for every run that ended."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lit_prm.commands.paper.schedule import SeededRun


class ProgressView:
    """A context manager that shows the progress; without a terminal it prints only the lines of ended runs."""

    def __init__(self, total: int, finished: int, workers: int, console: Console) -> None:
        run, state = TextColumn("{task.description}"), TextColumn("{task.fields[state]}")
        self._progress = Progress(
            run, BarColumn(), state, TimeElapsedColumn(), TimeRemainingColumn(), console=console,
            disable=not console.is_terminal, speed_estimate_period=math.inf,  # a run takes minutes: count them all
        )  # fmt: skip
        self._console = console
        self._since: dict[int, float] = {}
        self._total, self._made = total, finished
        self._overall = self._progress.add_task("all runs", total=total, completed=finished, state=self._state())
        self._lines = [self._progress.add_task("", total=None, state="idle", visible=False) for _ in range(workers)]

    def __enter__(self) -> ProgressView:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._progress.stop()
        if kind is not None and issubclass(kind, SystemExit | KeyboardInterrupt):
            self._console.print("stopped; the same command goes on")

    def started(self, slot: int, job: SeededRun) -> None:
        """Show the run in the worker's line and count its seconds from zero."""
        self._since[slot] = time.monotonic()
        self._progress.reset(self._lines[slot], description=str(job), state="", visible=True, total=None)

    def ended(self, slot: int, job: SeededRun, well: bool) -> None:
        """Print the line of the ended run; advance the bar and the time left."""
        seconds = time.monotonic() - self._since.pop(slot)
        self._progress.update(self._lines[slot], description="", state="idle", visible=False)
        self._advance()
        self.say(f"[{self._made}/{self._total}] {job}: {'' if well else 'FAILED after '}{seconds:.0f} s")

    def skipped(self, job: SeededRun, why: str) -> None:
        """Print why a run will not be made, and advance the bar."""
        self._advance()
        self.say(f"[{self._made}/{self._total}] {why}")

    def say(self, text: str) -> None:
        """Print text above the bars; brackets in it are no markup."""
        self._progress.console.print(escape(text), highlight=False, soft_wrap=True)

    def _advance(self) -> None:
        self._made += 1
        self._progress.update(self._overall, completed=self._made, state=self._state())

    def _state(self) -> str:
        return f"{self._made}/{self._total}"
