"""A bar for long jobs: how much is done, how fast, how long the rest takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A call that says how many of ``total`` are done, and a word on how it goes.

    Speed and time left are those of what is done from here on, not of the ``done``.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    words = TextColumn(
        "{task.completed:.0f}/{task.total:.0f} {task.description}{task.fields[speed]}{task.fields[note]}"
    )
    with Progress(BarColumn(), TaskProgressColumn(), words, TimeRemainingColumn()) as shown:
        task = shown.add_task(what, total=total, completed=done, speed="", note="")

        def told(done: int, note: str = "") -> None:
            speed = shown.tasks[0].speed
            shown.update(
                task, completed=done, speed=f", {speed:.1f}/s" if speed else "", note=f", {note}" if note else ""
            )

        yield told
