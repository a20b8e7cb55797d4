"""Files of a run's folder: reads them, or names the damaged one and the remedy; configurations as flat dotted keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lit_prm.storage.moved import with_names_of_today


def read_record(file: Path) -> dict[str, Any]:
    """Contents of ``summary.json`` or ``data.json``; empty if the file does not exist yet."""
    if not file.exists():
        return {}
    return _mapping(
        file, lambda: json.loads(file.read_bytes()), "remove it, and the run continues from its last checkpoint"
    )


def status(folder: Path) -> str | None:
    """Final status of the run in ``folder``; None if it has not ended."""
    return read_record(folder / "summary.json").get("status")


def is_finished(folder: Path, test_sets: Iterable[str]) -> bool:
    """Whether the run of ``folder`` was trained to its end and tested on every set."""
    summary = read_record(folder / "summary.json")
    tested = all(f"bon/{name}/acc@1" in summary.get("metrics", {}) for name in test_sets)
    return summary.get("status") == "FINISHED" and tested


def config_of(file: Path, text: str) -> dict[str, Any]:
    """The configuration that ``text``, read from a run's ``config.yaml``, holds, with the present names of classes."""
    remedy = "put it back, or remove the run's folder to start again"
    return dict(with_names_of_today(_mapping(file, lambda: yaml.safe_load(text), remedy)))


def _mapping(file: Path, parsed: Callable[[], Any], remedy: str) -> dict[str, Any]:
    try:
        content = parsed()
    except (ValueError, yaml.YAMLError) as error:
        refuse_damaged(file, " ".join(str(error).split()), remedy)
    if not isinstance(content, dict):
        refuse_damaged(file, f"it holds {str(content)[:50]!r}", remedy)
    return content


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def refuse_damaged(file: Path, reason: str, remedy: str) -> NoReturn:
    """Raise ValueError with the name of the file, what is wrong with it and the remedy."""
    raise ValueError(f"{file} is damaged ({reason}); {remedy}")
