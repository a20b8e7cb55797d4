"""Files that are complete whenever they exist, made by one process at a time."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "lock"  # in the folder of `alone`


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path to write to; renamed to ``target`` when the block ends well: no kill or power cut leaves half of it.

    The process number keeps two writers of one target apart: the later one wins.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        _reach_the_disk(partial)
        os.replace(partial, target)
    except (OSError, RuntimeError) as error:
        full = error if isinstance(error, OSError) else error.__context__  # torch has words of its own for it
        if not isinstance(full, OSError) or full.errno is None or full.filename is not None:
            raise
        raise OSError(full.errno, full.strerror, str(target)) from error  # a full disk names no file
    finally:
        if partial.is_file():
            partial.unlink()


def remove_leftovers(target: Path) -> None:
    """What writers of ``target`` that were killed left beside it; for one who is known to be its only writer."""
    for partial in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        partial.unlink(missing_ok=True)


def _reach_the_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


@contextmanager
def alone(parts: Path) -> Iterator[None]:
    """One process works on a file at a time: ``parts`` is the folder ``FILE.parts`` of what is done so far.

    A block that leaves the folder empty leaves none. The lock's file goes while it is held, so that one who opened it
    before finds that it has no name any more (filelock looks), and is refused.
    """
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parts / LOCK)
    try:
        lock.acquire(blocking=False)
    except (Timeout, FileNotFoundError):  # or it removes the folder just now
        raise ValueError(f"another process is writing {parts.name.removesuffix('.parts')}; wait for it") from None
    try:
        yield
    finally:
        empty = [path.name for path in parts.iterdir()] == [LOCK]
        if empty:
            (parts / LOCK).unlink()
        lock.release()
        if empty:
            with suppress(OSError):  # another process has begun there, or NFS keeps what was open
                parts.rmdir()


def clear(parts: Path) -> None:
    """Remove what is in the folder of ``alone``, once it is closed and the whole is there."""
    for path in parts.iterdir():
        if path.name != LOCK:
            path.unlink()
