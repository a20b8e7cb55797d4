"""What a judgement leaves in a run's folder: scored responses, curves of every problem, a figure."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored, located
from lit_prm.evaluation.evaluate import Judgement
from lit_prm.evaluation.intervals import bootstrap_interval
from lit_prm.storage.atomic import written_whole

Row = Mapping[str, Any]


def write_judgement(folder: Path, judgement: Judgement, candidates: CandidateSet, scored: Scored) -> None:
    """Replace ``scores/<set>.jsonl.gz``, ``scores/<set>-problems.jsonl.gz`` and ``figures/<set>.png``, each whole."""
    name = judgement.name
    write_rows(folder / "scores" / f"{name}.jsonl.gz", _responses(judgement, candidates, scored))
    write_rows(folder / "scores" / f"{name}-problems.jsonl.gz", _problems(judgement, candidates, scored))
    draw_curves(folder / "figures" / f"{name}.png", judgement)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """JSON lines, gzipped; equal rows give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that ``write_rows`` wrote."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def _responses(judgement: Judgement, candidates: CandidateSet, scored: Scored) -> Iterable[Row]:
    """One row per candidate: what it is, how each scorer judged it, the reward of each of its steps."""
    rollouts = [(g.problem, i, r) for g in candidates.groups for i, r in enumerate(g.rollouts)]
    for at, (problem, index, rollout) in enumerate(rollouts):
        unique = candidates.source[at]
        yield {
            "problem": problem.id,
            "response": index,
            "correct": rollout.correct,
            "answer": rollout.answer,
            "cluster": int(candidates.clusters[at]),
            "first_error": rollout.first_error,
            "reward": round(float(scored.reward[unique]), 5),
            "step_rewards": [
                round(float(x), 5) if ok else None
                for x, ok in zip(scored.steps[unique], scored.valid[unique], strict=True)
            ],
            "scores": {name: round(float(values[at]), 5) for name, values in judgement.scores.items()},
        }


def _problems(judgement: Judgement, candidates: CandidateSet, scored: Scored) -> Iterable[Row]:
    """One row per problem: every curve at every N, so that runs can be compared problem by problem."""
    found = located(candidates, scored)
    for p, group in enumerate(candidates.groups):
        yield {
            "problem": group.problem.id,
            "subject": group.problem.subject,
            "level": group.problem.level,
            "candidates": len(group.rollouts),
            "counts": list(judgement.counts),
            "curves": {name: [round(float(x), 8) for x in values[p]] for name, values in judgement.curves.items()},
            "first_error": {rule: _or_none(values[p]) for rule, values in found._asdict().items()},
        }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 8)


def draw_curves(path: Path, judgement: Judgement) -> None:
    """Accuracy against the number of candidates: trained rules in colour, the first of each kind with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    seen: Counter[str] = Counter()
    for name, values in judgement.curves.items():
        kind = _kind(name)
        colour, line = _STYLES[kind]
        (drawn,) = axes.plot(judgement.counts, 100 * values.mean(0), line, color=colour, marker=".", label=name)
        drawn.set_alpha(max(1.0 - 0.3 * seen[kind], 0.3))
        if kind in ("bon", "vote") and not seen[kind]:
            low, high = np.array([bootstrap_interval(column) for column in values.T]).T
            axes.fill_between(judgement.counts, 100 * low, 100 * high, color=colour, alpha=0.1, linewidth=0)
        seen[kind] += 1
    axes.set_xscale("log", base=2)
    axes.set_xticks(judgement.counts, [str(n) for n in judgement.counts])
    axes.set(
        xlabel="candidates N",
        ylabel="accuracy of the chosen answer, %",
        title=f"{judgement.name} ({len(values)} problems)",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    with written_whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))


_STYLES = {
    "bon": ("tab:blue", "-"), "vote": ("tab:orange", "-"), "reference": ("tab:green", "--"),
    "untrained": ("tab:gray", ":"), "majority": ("black", "--"), "any": ("black", ":"),
}  # fmt: skip


def _kind(curve: str) -> str:
    method, _, scorer = curve.partition("/")
    if scorer.startswith("reference"):
        return "reference"
    return "untrained" if scorer and scorer not in AGGREGATES else method
