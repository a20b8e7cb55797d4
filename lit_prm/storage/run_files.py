"""Files of a run's folder: reads them, or names the damaged one and the remedy; configurations as flat dotted keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_prm.storage.moved import with_names_of_today
from lit_prm.storage.schemas import fitting, parsed, refuse_damaged


@dataclass
class _Record:
    """What readers take from ``summary.json`` and ``data.json``."""

    status: str | None = None
    name: str | None = None
    commit: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def read_record(file: Path) -> dict[str, Any]:
    """Contents of ``summary.json`` or ``data.json``; empty if the file does not exist yet. Metrics are numbers."""
    if not file.exists():
        return {}
    remedy = "remove it, and the run continues from its last checkpoint"
    content: dict[str, Any] = parsed(file, remedy)
    record = fitting(content, _Record, file, remedy)
    return content | ({"metrics": record.metrics} if "metrics" in content else {})


def status(folder: Path) -> str | None:
    """Final status of the run in ``folder``; None if it has not ended."""
    return read_record(folder / "summary.json").get("status")


def is_finished(folder: Path, test_sets: Iterable[str]) -> bool:
    """Whether the run of ``folder`` was trained to its end and tested on every set."""
    summary = read_record(folder / "summary.json")
    tested = all(f"bon/{name}/acc@1" in summary.get("metrics", {}) for name in test_sets)
    return summary.get("status") == "FINISHED" and tested


def config_of(file: Path, change: Callable[[bytes], bytes] = bytes) -> dict[str, Any]:
    """The configuration in a run's ``config.yaml``, with the present names of classes; ``change`` comes first."""
    content = parsed(file, CONFIG_REMEDY, change(file.read_bytes()))
    try:
        return dict(with_names_of_today(fitting(content, dict[str, Any], file, CONFIG_REMEDY)))
    except RecursionError:
        refuse_damaged(file, "an alias names what holds it", CONFIG_REMEDY)


CONFIG_REMEDY = "put it back, or remove the run's folder to start again"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
