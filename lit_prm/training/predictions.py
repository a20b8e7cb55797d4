"""The files that `predict` writes: scores of every response."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.rows import write_rows
from lit_prm.training.outputs import Scores


def write_predictions(folder: Path, sets: Sequence[CandidateSet], outputs: Sequence[Any]) -> list[Path]:
    """``<folder>/<set>.jsonl.gz`` for every set: reward, step rewards and scores of each response, in file order.

    ``outputs`` is what ``trainer.predict`` returned: a list of batches for each set, or one list if there is one set.
    """
    by_set = [outputs] if len(sets) == 1 else outputs
    files = [folder / f"{candidates.name}.jsonl.gz" for candidates in sets]
    for file, candidates, batches in zip(files, sets, by_set, strict=True):
        write_rows(file, _rows(candidates, batches))
    return files


def _rows(candidates: CandidateSet, batches: Sequence[Scores]) -> Iterator[dict[str, Any]]:
    scored = dict(_each_response(batches))
    if len(scored) < len(candidates.encoded):
        raise ValueError(
            f"candidate set {candidates.name!r}: {len(candidates.encoded) - len(scored)} of {len(candidates.encoded)} "
            "responses were not scored. Predict on one device and without trainer.limit_predict_batches."
        )
    named = [(group.problem.id, i) for group in candidates.groups for i in range(len(group.rollouts))]
    for (problem, index), source in zip(named, candidates.source, strict=True):
        yield {"problem": problem, "response": index, **scored[int(source)]}


def _each_response(batches: Sequence[Scores]) -> Iterator[tuple[int, dict[str, Any]]]:
    for batch in batches:
        steps, valid = batch.steps.double().cpu().numpy(), batch.valid.cpu().numpy()
        scores = {name: aggregate(steps, valid) for name, aggregate in AGGREGATES.items()}
        for i, row in enumerate(batch.row.tolist()):
            found = {
                "reward": round(float(batch.reward[i]), 5),
                "step_rewards": [round(float(x), 5) for x in steps[i][valid[i]]],
                "scores": {name: _finite(values[i]) for name, values in scores.items()},
            }
            yield row, found


def _finite(score: float) -> float | None:
    """The score with five decimals; None for a response without steps, whose score is infinite."""
    return round(float(score), 5) if math.isfinite(score) else None
