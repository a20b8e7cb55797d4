"""Files that are complete whenever they exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
