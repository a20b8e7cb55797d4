"""Reads files through the type that their content must have; what does not fit is an error in one line, with a remedy.

A schema is a dataclass, whose annotations pydantic verifies; values that it does not name are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NoReturn, TypeVar

import yaml

Kind = TypeVar("Kind")


def read_file(file: Path, kind: type[Kind], remedy: str) -> Kind:
    """The content of a JSON or YAML file as ``kind``. Raises ValueError, with reason and remedy, if it does not fit."""
    return fitting(parsed(file, remedy), kind, file, remedy)


def parsed(file: Path, remedy: str, data: bytes | None = None) -> Any:
    """What a JSON or YAML file holds, or ``data`` in its place."""
    parse = yaml.safe_load if file.suffix == ".yaml" else json.loads
    try:
        return parse((file.read_bytes() if data is None else data).decode())
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        refuse_damaged(file, one_line(error), remedy)


def fitting(content: object, kind: type[Kind], place: object, remedy: str) -> Kind:
    """``content`` as ``kind``; ``place`` says where it was read."""
    from pydantic import ValidationError

    try:
        return _schema(kind).validate_python(content)  # type: ignore[no-any-return, arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at, rule = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        refuse_damaged(place, f"{f'{at}: ' if at else ''}{rule}, not {shortened(first['input'])}", remedy)


@cache
def _schema(kind: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def refuse_damaged(place: object, reason: str, remedy: str) -> NoReturn:
    """Raise ValueError with the name of the file, what is wrong with it and the remedy."""
    raise ValueError(f"{place} is damaged ({reason}); {remedy}")


def one_line(error: BaseException) -> str:
    """The first 300 characters of the error's text on one line; its class if it has no text."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def about(place: object) -> Iterator[None]:
    """Inside, a ValueError that does not name ``place`` gets its name in front."""
    try:
        yield
    except ValueError as error:
        if str(place) in str(error):
            raise
        raise ValueError(f"{place}: {error}") from error
