"""Runs of chosen accuracy for tests of comparisons: as values, and recorded in a real MLflow store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.evaluation.artifacts import write_rows
from lit_prm.reports.compare.problems import Problems
from lit_prm.reports.compare.runs import Experiment, Run
from lit_prm.storage.mlflow_logger import MLflow

COUNTS = (1, 4, 16, 64)
Right = Sequence[float]  # accuracy of the chosen answer, one per problem, at every N


def problems(right: Right, method: Mapping[str, Right] | None = None) -> Problems:
    """As many problems as ``right`` has, the same at every N."""
    curves = {"bon/min": right, "vote/min": right, "majority": right, "any": [1.0] * len(right), **(method or {})}
    ids = tuple(f"test/{i}" for i in range(len(right)))
    made = {name: np.repeat(np.array(values, float)[:, None], len(COUNTS), 1) for name, values in curves.items()}
    return Problems(ids, COUNTS, made)


def run(name: str, seed: int, sets: Mapping[str, Right], world: str = "", **of_run: Any) -> Run:
    """Judged on the data ``world``, its own when it is empty."""
    tags = {f"data.{s}": world or f"world of seed {seed}" for s in sets}
    tags |= {"commit": "a" * 40, "dirty": "False", **of_run.pop("tags", {})}
    made = {s: problems(right) for s, right in sets.items()}
    facts: dict[str, Any] = {"params": {}, "metrics": {}, "problems": made} | of_run
    return Run(id=f"{name}-{seed}", name=name, seed=seed, tags=tags, **facts)


def experiment(name: str, by_seed: Sequence[Right], world: str = "") -> Experiment:
    """One candidate set, `test`."""
    return Experiment(name, tuple(run(name, seed, {"test": right}, world) for seed, right in enumerate(by_seed)))


def recorded(folder: Path, uri: str, name: str, seed: int, right: Right, **of_run: Any) -> str:
    """The id of a finished run in the store; ``kept`` False: without its files."""
    at = folder / name.replace("/", "_") / f"seed-{seed}-{of_run.get('again', 0)}"
    logger = MLflow(folder=str(at), run_name=name, tracking_uri=uri)
    place = {
        "name": name,
        "scale": "tiny",
        "seed": seed,
        "run_dir": f"runs/tiny/{name}/seed-{seed}",
        "commit": "a" * 40,
    }
    logger.log_tags({**place, "dirty": "False", "data.test": "d" * 64, **of_run.get("tags", {})})
    logger.log_hyperparams(
        {"run_dir": place["run_dir"], "name": name, "seed_everything": seed, **of_run.get("params", {})}
    )
    logger.log_metrics(_metrics(right) | of_run.get("metrics", {}), step=4)
    for step, loss in enumerate(of_run.get("losses", ())):
        logger.log_metrics({"train/loss": loss}, step=step)
    if of_run.get("kept", True):
        write_rows(at / "scores" / "test-problems.jsonl.gz", _rows(right))
        (at / "summary.json").write_text(json.dumps({"timing": {"wall_seconds": 90.0}}))
        logger.log_files(at / "scores")
        logger.log_files(at / "summary.json")
    logger.finalize(of_run.get("status", "success"))
    return str(logger.run_id)


def _metrics(right: Right) -> dict[str, float]:
    mean = sum(right) / len(right)
    found = {f"{m}/test/acc@{n}": mean for m in ("bon", "vote", "majority", "any") for n in COUNTS}
    found |= {f"{key}/low": mean - 0.05 for key in found} | {f"{key}/high": mean + 0.05 for key in found}
    return found | {f"bon/test/level-{i}/acc@16": mean for i in (1, 2)} | {"cost/total_flops": 1e12}


def _rows(right: Right) -> list[dict[str, Any]]:
    names = ("bon/min", "vote/min", "majority", "any")
    return [
        {"problem": f"test/{i}", "counts": list(COUNTS), "curves": {name: [x] * len(COUNTS) for name in names},
         "first_error": {"found": x}}
        for i, x in enumerate(right)
    ]  # fmt: skip
