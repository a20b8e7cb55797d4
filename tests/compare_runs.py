"""Runs of chosen accuracy for tests of comparisons: as values, as folders, and in a real MLflow store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lit_prm.evaluation.rows import write_rows
from lit_prm.reports.runs import Experiment, Problems, Run
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
    digests = {s: world or f"world of seed {seed}" for s in sets}
    facts: dict[str, Any] = {"metrics": {}, "digests": digests, "commit": "a" * 40, "mlflow_id": f"{name}-{seed}"}
    return Run(name=name, seed=seed, problems={s: problems(right) for s, right in sets.items()}, **(facts | of_run))


def experiment(name: str, by_seed: Sequence[Right], world: str = "") -> Experiment:
    """One candidate set, `test`."""
    return Experiment(name, tuple(run(name, seed, {"test": right}, world) for seed, right in enumerate(by_seed)))


def recorded(runs: Path, name: str, seed: int, right: Right, *, scale: str = "tiny", **of_run: Any) -> Path:
    """The folder of a run as ``RunRecord`` leaves it; ``kept`` False: without the problems."""
    at = runs / scale / name / f"seed-{seed}"
    at.mkdir(parents=True)
    metrics = _metrics(right) | of_run.get("metrics", {})
    summary = {"name": name, "scale": scale, "seed": seed, "commit": "a" * 40, "dirty": False, "versions": {}}
    summary |= {"status": of_run.get("status", "FINISHED"), "metrics": metrics, "timing": {"wall_seconds": 90.0}}
    config = {"run_dir": f"runs/{scale}/{name}/seed-{seed}", "name": name, "seed_everything": seed}
    (at / "summary.json").write_text(json.dumps(summary))
    (at / "config.yaml").write_text(yaml.safe_dump(config | of_run.get("params", {})))
    (at / "data.json").write_text(json.dumps({"digests": {"test": "d" * 64}}))
    if of_run.get("kept", True):
        write_rows(at / "scores" / "test-problems.jsonl.gz", _rows(right))
    return at


def tracked(folder: Path, uri: str, losses: Sequence[float] = ()) -> str:
    """Record the run of ``folder`` in an MLflow store too, as training does; its MLflow id."""
    logger = MLflow(folder=str(folder), run_name=folder.parent.name, tracking_uri=uri)
    logger.log_metrics(json.loads((folder / "summary.json").read_text())["metrics"], step=4)
    for step, loss in enumerate(losses):
        logger.log_metrics({"train/loss": loss}, step=step)
    logger.finalize("success")
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
