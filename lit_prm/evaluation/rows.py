"""JSON lines, gzipped: how a run keeps its scored responses and its problems."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lit_prm.storage.atomic import written_whole


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the whole file or nothing; equal rows give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that ``write_rows`` wrote."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]
