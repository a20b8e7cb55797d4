"""Files that are complete whenever they exist, made by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path to write to; renamed to ``target`` when the block ends well, so no reader and no kill sees half of it.

    The process number keeps two writers of one target apart: the later one wins.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        if partial.is_file():
            partial.unlink()


LOCK = "lock"


@contextmanager
def alone(parts: Path) -> Iterator[None]:
    """One process works on a file at a time: ``parts`` is the folder ``FILE.parts`` of what is done so far.

    A block that leaves the folder empty leaves none. The lock goes last, when it is closed: NFS keeps what is removed
    while it is open, and so the folder.
    """
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parts / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"another process is writing {parts.name.removesuffix('.parts')}; wait for it") from None
    try:
        yield
    finally:
        lock.release()
        if [path.name for path in parts.iterdir()] == [LOCK]:
            (parts / LOCK).unlink()
            parts.rmdir()


def clear(parts: Path) -> None:
    """Remove what is in the folder of ``alone``, once it is closed and the whole is there."""
    for path in parts.iterdir():
        if path.name != LOCK:
            path.unlink()
