"""Files of a run's folder: reads them, or names the damaged one and the remedy; configurations as flat dotted keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lit_prm.storage.moved import with_names_of_today


def read_record(file: Path) -> dict[str, Any]:
    """Contents of ``summary.json`` or ``data.json``; empty if the file does not exist yet."""
    if not file.exists():
        return {}
    remedy = "remove it, and the run continues from its last checkpoint"
    try:
        record = json.loads(file.read_bytes())
    except ValueError as error:
        refuse_damaged(file, str(error), remedy)
    if not isinstance(record, dict):
        refuse_damaged(file, f"it holds {str(record)[:50]!r}", remedy)
    return record


def status(folder: Path) -> str | None:
    """Final status of the run in ``folder``; None if it has not ended."""
    return read_record(folder / "summary.json").get("status")


def config_of(file: Path, text: str) -> dict[str, Any]:
    """The configuration that ``text``, read from a run's ``config.yaml``, holds, with the present names of classes."""
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        refuse_damaged(file, " ".join(str(error).split()), "put it back, or remove the run's folder to start again")
    if not isinstance(config, dict):
        refuse_damaged(file, f"it holds {str(config)[:50]!r}", "put it back, or remove the run's folder to start again")
    return dict(with_names_of_today(config))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def refuse_damaged(file: Path, reason: str, remedy: str) -> NoReturn:
    """Raise ValueError with the name of the file, what is wrong with it and the remedy."""
    raise ValueError(f"{file} is damaged ({reason}); {remedy}")
