"""What the files of a run's folder say; one that is damaged is named, with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lit_prm.storage.moved import with_names_of_today


def read_record(file: Path) -> dict[str, Any]:
    """``summary.json`` or ``data.json``; nothing where there is none yet."""
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        _refuse(file, str(error), "remove it, and the run goes on from its last checkpoint")
    if not isinstance(found, dict):
        _refuse(file, f"it holds {str(found)[:50]!r}", "remove it, and the run goes on from its last checkpoint")
    return found


def config_of(file: Path, text: str) -> dict[str, Any]:
    """The configuration that ``text``, read from a run's ``config.yaml``, holds, with the present names of classes."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        _refuse(file, " ".join(str(error).split()), "put it back, or remove the run's folder to start again")
    if not isinstance(found, dict):
        _refuse(file, f"it holds {str(found)[:50]!r}", "put it back, or remove the run's folder to start again")
    return dict(with_names_of_today(found))


def _refuse(file: Path, reason: str, remedy: str) -> NoReturn:
    raise ValueError(f"{file} is damaged ({reason}); {remedy}")
