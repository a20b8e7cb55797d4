"""JSON files of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_prm.storage.atomic import write_text


def write_json(path: Path, value: Any) -> None:
    """The value of ``json_value`` as indented JSON."""
    write_text(path, json.dumps(json_value(value), indent=1, allow_nan=False) + "\n")


def json_value(value: Any) -> Any:
    """Only types that JSON has: named tuples as objects, arrays as lists, null for nan and infinity."""
    if hasattr(value, "_asdict"):
        return json_value(value._asdict())
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): json_value(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
