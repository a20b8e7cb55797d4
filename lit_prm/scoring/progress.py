"""A progress bar for long jobs: how much is done, how fast, how much time is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A progress bar. Yields ``update(done, note)``, which sets the finished count and the note beside it.

    The first ``done`` of ``total`` were finished before, so the speed leaves them out.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    words = TextColumn(
        "{task.completed:.0f}/{task.total:.0f} {task.description}{task.fields[speed]}{task.fields[note]}"
    )
    with Progress(BarColumn(), TaskProgressColumn(), words, TimeRemainingColumn()) as shown:
        task = shown.add_task(what, total=total, completed=done, speed="", note="")

        def update(done: int, note: str = "") -> None:
            speed = shown.tasks[0].speed
            shown.update(
                task, completed=done, speed=f", {speed:.1f}/s" if speed else "", note=f", {note}" if note else ""
            )

        yield update
