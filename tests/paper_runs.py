"""Small run folders as recorded runs leave them, with accuracies that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.evaluation.rows import write_rows

COUNTS = (1, 2, 4, 8, 16, 32, 64)
SETS = {"weaker": 20, "test": 40, "stronger": 20}


def write_run(
    runs: Path,
    name: str,
    seed: int = 0,
    *,
    level: float = 0.5,
    curves: Mapping[str, float] | None = None,
    metrics: Mapping[str, float] | None = None,
    sets: Mapping[str, int] | None = None,
    status: str = "FINISHED",
    noise: float = 0.02,
) -> Path:
    """A run whose best-of-N is right with chance ``level`` plus noise, problem by problem.

    Problems have their own difficulty, shared by all runs of a seed.
    """
    folder = runs / name / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *name.encode()])
    levels = {"bon/min": level, "vote/min": level, "majority": 0.5, "bon/random": 0.4, **(curves or {})}
    found: dict[str, float] = {}
    for candidates, count in (sets or SETS).items():
        difficulty = np.random.default_rng([seed, 1]).uniform(-0.2, 0.2, max(SETS.values()))
        rows = [_row(f"test/{p}", levels, difficulty[p] + noise * rng.normal()) for p in range(count)]
        write_rows(folder / "scores" / f"{candidates}-problems.jsonl.gz", rows)
        found[f"bon/{candidates}/acc@1"] = level
    (folder / "summary.json").write_text(json.dumps({"status": status, "metrics": {**found, **(metrics or {})}}))
    return folder


def _row(problem: str, levels: Mapping[str, float], offset: float) -> dict[str, Any]:
    curves = {
        curve: [float(value + offset)] * len(COUNTS)
        for curve, value in levels.items()
        if not curve.startswith("first_error/")
    }
    errors = {rule: levels.get(f"first_error/{rule}") for rule in ("found", "reference", "position", "chance")}
    return {"problem": problem, "counts": list(COUNTS), "curves": curves, "first_error": errors}
