"""The rows of a file or a hub data set, each with its place, e.g. file:line."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lit_prm.data.formats.arrow import saved_files, streamed, table_rows
from lit_prm.data.formats.columns import BadRow, Row, is_nan

Placed = tuple[str, Row | BadRow]  # "file:line", and the row or why it cannot be read

HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w.-]+))??(?::([\w.+-]+(?:\[[^\]]*\])?))?")
FILES = (".jsonl", ".json", ".parquet", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz")


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
    """Open a file by its suffix, a folder of files, or a hub data set `owner/name[:config][:split]`.

    A folder holds what ``datasets.save_to_disk`` wrote, or shards: files of one suffix, read in order of their names.
    A folder of a hub data set in ``data_folder`` is read as this data set.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _file(path)
    hub = HUB_NAME.fullmatch(source)
    if path.is_dir() and (hub is None or local_copy(hub[1]) is None):
        return _folder(path)
    if hub is None or names_file(source):
        raise ValueError(
            f"{source}: no such file, and no hub name owner/name[:split]; "
            "correct the path (in a training configuration it is relative to data.root)"
        )
    return _hub(source, hub[1], hub[2], hub[3] or "train")


def _folder(path: Path) -> RowSource:
    if (path / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in path.iterdir() if p.is_dir())
        raise ValueError(f"{path}: holds the splits {', '.join(splits)}; give one of them, {path / splits[0]}")
    shards = saved_files(path) or sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(FILES))
    kinds = sorted({"".join(p.suffixes[-2:] if p.suffix == ".gz" else p.suffixes[-1:]) for p in shards})
    if len(kinds) != 1:
        found = f"files of several kinds ({', '.join(kinds)})" if kinds else f"no file with {', '.join(FILES)}"
        raise ValueError(f"{path}: is a folder with {found}; give one file, or a folder of shards of one kind")
    opened = [_file(shard) for shard in shards]
    digest = hashlib.sha256("".join(shard.digest for shard in opened).encode()).hexdigest()
    return RowSource(chain.from_iterable(shard.rows for shard in opened), digest)


def _file(path: Path) -> RowSource:
    if not path.name.endswith((*FILES, ".arrow")):
        raise ValueError(f"{path}: the suffix is none of {', '.join(FILES)}; convert the file to one of them")
    data = path.read_bytes()
    content = _unzipped(path, data) if path.suffix == ".gz" else data
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet, ".arrow": _arrow}
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
    except (ValueError, RecursionError) as error:  # no JSON, or brackets without end
        # the writer of a whole file ends its last line
        remedy = "the file looks cut, copy or write it again" if last else "correct or remove the line"
        return BadRow(f"the line is no JSON ({_why(error)}); {remedy}")


def _json(name: str, data: bytes) -> Iterator[Placed]:
    try:
        rows = json.loads(data)
    except ValueError as error:
        remedy = "if it has one row a line call it .jsonl, if it looks cut copy it again"
        raise ValueError(f"{name}: no JSON ({_why(error)}); {remedy}") from None
    if isinstance(rows, dict) and all(isinstance(of_key, list) for of_key in rows.values()) and any(rows.values()):
        rows = [row for of_key in rows.values() for row in of_key]  # lists of rows by problem or by split
    if not isinstance(rows, list):
        raise ValueError(f"{name}: holds a {type(rows).__name__}, not a list of rows; write it as [{{...}}, ...]")
    return _numbered(name, iter(rows))


def _csv(name: str, data: bytes) -> Iterator[Placed]:
    """Rows of a table with a header line; an empty cell is null."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: no text in UTF-8 ({error}); save the table in UTF-8") from None
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # of the whole process
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in table:
            place = f"{name}:{table.line_num}"
            if None in row or None in row.values():
                yield place, BadRow(f"the line has not {len(table.fieldnames or ())} cells; correct or remove it")
            else:
                yield place, {column: cell or None for column, cell in row.items()}
    except csv.Error as error:
        raise ValueError(f"{name}:{table.line_num + 1}: no CSV ({error}); the file looks cut, copy it again") from None


def _why(error: Exception) -> str:
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
    return _numbered(name, table_rows(table))


def _arrow(name: str, data: bytes) -> Iterator[Placed]:
    return _numbered(name, table_rows(streamed(name, data)))


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
        return {column: None if is_nan(cell) else cell for column, cell in value.items()}
    return BadRow(f"the row is a {type(value).__name__}, not an object with columns; write it as {{...}}")
