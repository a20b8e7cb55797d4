"""The rows of a file or a hub data set, each with its place, e.g. file:line."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_prm.data.formats.columns import BadRow, Row

Placed = tuple[str, Row | BadRow]  # "file:line", and the row or why it cannot be read

HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w.-]+))??(?::([\w.+-]+(?:\[[^\]]*\])?))?")
FILES = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")


def names_file(source: str) -> bool:
    """True if the name has a file's ending, whether or not the file exists; hub names may have other dots."""
    return source.endswith((*FILES, ".gz"))


def bare(source: str) -> str:
    """The file name without folder and known ending: `one.dpo` for `folder/one.dpo.jsonl.gz`."""
    name = Path(source).name
    return name.removesuffix(max((e for e in FILES if name.endswith(e)), key=len, default=""))


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows in order and a digest of their content."""

    rows: Iterator[Placed]
    digest: str


def data_folder() -> Path | None:
    """The folder of local data that the environment variable LIT_PRM_DATA names; None if unset or not there."""
    folder = Path(os.environ.get("LIT_PRM_DATA", "")).expanduser()
    return folder if os.environ.get("LIT_PRM_DATA") and folder.is_dir() else None


def local_copy(name: str) -> Path | None:
    """The local copy of the hub data set ``owner/name``: the folder of that name in ``data_folder()``, if it is there.

    The copy has the files and the README.md of the hub's repository, as `hf download --repo-type dataset` leaves them.
    """
    folder = data_folder()
    return folder / name if folder and (folder / name).is_dir() else None


def open_source(source: str) -> RowSource:
    """Open a file by its suffix, or a hub data set `owner/name[:config][:split]` (or its ``local_copy``)."""
    path = Path(source).expanduser()
    if path.is_file():
        return _file(path)
    hub = HUB_NAME.fullmatch(source)
    if hub is None or names_file(source) or (path.exists() and local_copy(hub[1]) is None):
        raise ValueError(
            f"{source}: {'is a folder' if path.exists() else 'no such file'}, and no hub name owner/name[:split]; "
            "correct the path (in a training configuration it is relative to data.root)"
        )
    return _hub(source, hub[1], hub[2], hub[3] or "train")


def _file(path: Path) -> RowSource:
    if not path.name.endswith(FILES):
        raise ValueError(f"{path}: the suffix is none of {', '.join(FILES)}; convert the file to one of them")
    data = path.read_bytes()
    content = _unzipped(path, data) if path.suffix == ".gz" else data
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    readers = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet}
    return RowSource(readers[kind](str(path), content), hashlib.sha256(data).hexdigest())


def _unzipped(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: gzip cannot unpack it ({error}); the file looks cut, copy it again") from None


def _jsonl(name: str, data: bytes) -> Iterator[Placed]:
    lines = data.split(b"\n")  # a complete file leaves an empty piece behind its last line break
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}:{number}", _line(line, last=number == len(lines))


def _line(line: bytes, *, last: bool) -> Row | BadRow:
    try:
        return _row(json.loads(line))
    except ValueError as error:
        # the writer of a whole file ends its last line
        remedy = "the file looks cut, copy or write it again" if last else "correct or remove the line"
        return BadRow(f"the line is no JSON ({_why(error)}); {remedy}")


def _json(name: str, data: bytes) -> Iterator[Placed]:
    try:
        rows = json.loads(data)
    except ValueError as error:
        remedy = "if it has one row a line call it .jsonl, if it looks cut copy it again"
        raise ValueError(f"{name}: no JSON ({_why(error)}); {remedy}") from None
    if not isinstance(rows, list):
        raise ValueError(f"{name}: holds a {type(rows).__name__}, not a list of rows; write it as [{{...}}, ...]")
    return _numbered(name, iter(rows))


def _why(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, character {error.pos + 1}"
    return str(error)  # bytes that are no UTF-8


def _parquet(name: str, data: bytes) -> Iterator[Placed]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{name}: no Parquet ({error}); the file looks cut, copy it again") from None
    return _numbered(name, iter(table.to_pylist()))


def _hub(source: str, name: str, config: str | None, split: str) -> RowSource:
    from datasets import load_dataset

    try:
        rows = load_dataset(str(local_copy(name) or name), config, split=split)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{source}: neither a file nor loaded from the hub ({str(error)[:200]}); correct the path of a file "
            "(in a training configuration it is relative to data.root), of a data set its name, configuration and "
            "split: owner/name[:config][:split]; without a network, put a copy of the data set into the folder "
            "owner/name of $LIT_PRM_DATA"
        ) from error
    digest = hashlib.sha256(f"{source} {rows._fingerprint}".encode()).hexdigest()
    return RowSource(_numbered(source, iter(rows)), digest)


def _numbered(name: str, rows: Iterator[Any]) -> Iterator[Placed]:
    return ((f"{name}:{number}", _row(row)) for number, row in enumerate(rows, start=1))


def _row(value: object) -> Row | BadRow:
    if isinstance(value, dict):
        return value
    return BadRow(f"the row is a {type(value).__name__}, not an object with columns; write it as {{...}}")
