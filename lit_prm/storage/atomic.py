"""Atomic writes: a file is complete whenever it exists, and one process at a time writes it."""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "lock"  # in the folder of `alone`


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to ``target`` if the block raises nothing: no kill leaves half a file.

    The name of the temporary file holds the process id, so two processes may write one target: the later one wins.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        reach_the_disk(partial)
        os.replace(partial, target)
    except (OSError, RuntimeError) as error:
        full = error if isinstance(error, OSError) else error.__context__  # torch raises a RuntimeError of its own
        if not isinstance(full, OSError) or full.errno is None or full.filename is not None:
            raise
        raise OSError(full.errno, full.strerror, str(target)) from error  # a full disk names no file
    finally:
        if partial.is_file():
            partial.unlink()


def write_text(path: Path, text: str) -> Path:
    """Write the whole file or nothing, into a folder that need not exist; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_text(text)
    return path


def remove_leftovers(target: Path) -> None:
    """Remove temporary files of killed writers of ``target``. No other process may be writing it now."""
    for partial in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        partial.unlink(missing_ok=True)


def reach_the_disk(file: Path) -> None:
    """Wait until the file would survive a power cut."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


@contextmanager
def alone(parts: Path) -> Iterator[None]:
    """Hold the lock of the folder ``parts``, named ``FILE.parts``, which stores the finished parts of FILE.

    Raises ValueError if another process holds the lock. A folder that is empty at the end is removed. The lock's file
    is removed while the lock is held: a process that opened the file before notices (filelock checks), and is refused.
    """
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parts / LOCK)
    try:
        lock.acquire(blocking=False)
    except (Timeout, FileNotFoundError):  # the other process removes the folder at this moment
        raise ValueError(
            f"Another process is writing {parts.name.removesuffix('.parts')}. Wait until it ends."
        ) from None
    try:
        yield
    finally:
        empty = [path.name for path in parts.iterdir()] == [LOCK]
        if empty:
            (parts / LOCK).unlink()
        lock.release()
        if empty:
            with suppress(OSError):  # another process uses the folder again, or NFS keeps open files
                parts.rmdir()


def swap(new: Path, old: Path) -> None:
    """Give the folder ``new`` the name of ``old``, which gets that of ``new``, if there is one.

    On Linux the two change in one step, so that at no moment ``old`` is missing. Where the file system cannot do that
    (NFS), ``old`` lies beside ``new`` as ``before`` for a moment; ``put_back`` undoes what a kill leaves there.
    """
    if not old.exists():
        new.rename(old)
    elif not _exchanged(new, old):
        before = new.with_name(BEFORE)
        old.rename(before)
        new.rename(old)
        before.rename(new)


def put_back(parts: Path, old: Path) -> None:
    """Undo a ``swap`` that was killed half-way between a folder of ``parts`` and ``old``."""
    if (parts / BEFORE).exists() and not old.exists():
        (parts / BEFORE).rename(old)


BEFORE = "before"


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step, by Linux's renameat2 with RENAME_EXCHANGE; False if that cannot be done."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def clear(parts: Path) -> None:
    """Remove the parts, after FILE itself is complete or when they are useless; the lock stays."""
    for path in parts.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
