"""The files that judging a candidate set leaves in a run's folder: responses, curves of every problem, a figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.evaluation import plots
from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored, located
from lit_prm.evaluation.estimate import by_count
from lit_prm.evaluation.evaluate import Judgement
from lit_prm.evaluation.rows import write_rows

Row = Mapping[str, Any]


def write_judgement(folder: Path, judgement: Judgement, candidates: CandidateSet, scored: Scored) -> None:
    """Replace ``scores/<set>.jsonl.gz``, ``scores/<set>-problems.jsonl.gz`` and ``figures/<set>.png``, each whole."""
    name = judgement.name
    write_rows(folder / "scores" / f"{name}.jsonl.gz", _responses(judgement, candidates, scored))
    write_rows(folder / "scores" / f"{name}-problems.jsonl.gz", _problems(judgement, candidates, scored))
    draw_curves(folder / "figures" / f"{name}.png", judgement)


def _responses(judgement: Judgement, candidates: CandidateSet, scored: Scored) -> Iterable[Row]:
    """One row per candidate: its label, its score by every rule, the reward of each of its steps."""
    rollouts = [(g.problem, i, r) for g in candidates.groups for i, r in enumerate(g.rollouts)]
    for at, (problem, index, rollout) in enumerate(rollouts):
        unique = candidates.source[at]
        steps = zip(scored.steps[unique], scored.valid[unique], strict=True)
        yield {
            "problem": problem.id,
            "response": index,
            "correct": rollout.correct,
            "answer": rollout.answer,
            "cluster": int(candidates.clusters[at]),
            "first_error": rollout.first_error,
            "reward": round(float(scored.reward[unique]), 5),
            "step_rewards": [round(float(x), 5) if ok else None for x, ok in steps],
            "scores": {name: round(float(values[at]), 5) for name, values in judgement.scores.items()},
        }


def _problems(judgement: Judgement, candidates: CandidateSet, scored: Scored) -> Iterable[Row]:
    """One row per problem: every curve at every N, so that runs can be compared problem by problem."""
    found = located(candidates, scored)._asdict()
    for p, group in enumerate(candidates.groups):
        yield {
            "problem": group.problem.id,
            "subject": group.problem.subject,
            "level": group.problem.level,
            "candidates": len(group.rollouts),
            "counts": list(judgement.counts),
            "curves": {name: [round(float(x), 8) for x in values[p]] for name, values in judgement.curves.items()},
            "first_error": {rule: None if np.isnan(x[p]) else round(float(x[p]), 8) for rule, x in found.items()},
        }


def draw_curves(path: Path, judgement: Judgement) -> None:
    """Accuracy against the number of candidates, one colour per kind of rule; the first of each kind has its interval.

    Trained rules are best-of-N and votes by a score of the model; the others need no training.
    """
    problems = len(next(iter(judgement.curves.values())))
    lines, drawn = list[plots.Series](), Counter[str]()
    for name, values in judgement.curves.items():
        kind = _kind(name)
        faded = {"alpha": max(1.0 - 0.3 * drawn[kind], 0.3)} if drawn[kind] else {}
        band = kind in ("bon", "vote") and not drawn[kind]
        lines.append(plots.Series(by_count(judgement.counts, values, band), name, _STYLES[kind] | faded, band))
        drawn[kind] += 1
    titles = [f"{judgement.name} ({problems} problems)"]
    plots.save(plots.over_candidates(titles, [lines], width=7.6, height=4.2), path)


_STYLES: dict[str, plots.Style] = {
    "bon": {"color": plots.COLOURS[0], "marker": "."}, "vote": {"color": plots.COLOURS[1], "marker": "."},
    "reference": {"color": plots.COLOURS[2], "marker": ".", "linestyle": "--"},
    "untrained": plots.RANDOM, "majority": plots.MAJORITY, "any": plots.ANY,
}  # fmt: skip


def _kind(curve: str) -> str:
    method, _, scorer = curve.partition("/")
    if scorer.startswith("reference"):
        return "reference"
    return "untrained" if scorer and scorer not in AGGREGATES else method
