"""Rows of Arrow tables, as Parquet files and ``datasets.save_to_disk`` hold them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow import DataType, Table

Decode = Callable[[Any], Any]


def saved_files(folder: Path) -> list[Path]:
    """The files of a data set that ``datasets.save_to_disk`` wrote, in order; none for any other folder."""
    try:
        named = json.loads((folder / "state.json").read_bytes())["_data_files"]
        return [folder / Path(file["filename"]).name for file in named]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'state.json'}: names no files of a data set ({error}); save it again") from None


def streamed(name: str, data: bytes) -> Table:
    """The table of an Arrow file as ``datasets`` writes it."""
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(io.BytesIO(data)).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{name}: no Arrow stream ({error}); save the data set again") from None


def table_rows(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of a table. Columns of mixed types, which ``datasets`` stores as JSON text, are decoded."""
    decoders = {field.name: decode for field in table.schema if (decode := _decoder(field.type))}
    for row in table.to_pylist():
        yield _decoded(row, decoders) if decoders else row


def _decoder(kind: DataType) -> Decode | None:
    """What turns a value of this type into Python; None if it is that already."""
    import pyarrow

    if isinstance(kind, pyarrow.JsonType):
        return json.loads
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        of_item = _decoder(kind.value_type)
        return (lambda values: [None if v is None else of_item(v) for v in values]) if of_item else None
    if pyarrow.types.is_struct(kind):
        of_fields = {kind.field(i).name: d for i in range(kind.num_fields) if (d := _decoder(kind.field(i).type))}
        return (lambda value: _decoded(value, of_fields)) if of_fields else None
    return None


def _decoded(value: dict[str, Any], decoders: dict[str, Decode]) -> dict[str, Any]:
    return value | {name: decode(value[name]) for name, decode in decoders.items() if value[name] is not None}
