"""The experiments of the paper's tables and figures, and the labels of their rows, from `paper.yaml`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

TEXTS: dict[str, Any] = yaml.safe_load((files("lit_prm.commands.paper") / "paper.yaml").read_text(encoding="utf-8"))

LABELS: dict[str, str] = TEXTS["labels"]
"""Experiment -> label of its row, the most important runs first."""

BY_COST: dict[str, list[str]] = TEXTS["by_cost"]
"""Experiments of CE, of DPO and of the baselines, ascending in cost."""

PARTS: dict[str, dict[str, Any]] = TEXTS["parts"]
"""Table or figure of the paper -> its title, the paper's message, rows and claims, the name of our figure."""

ROWS: dict[str, list[str]] = {key: part["rows"] for key, part in PARTS.items() if "rows" in part}
