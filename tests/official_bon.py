"""The paper's evaluation script, restated slowly from its description (docs/facts.md), one N at a time.

A record is one candidate: its answer string or None, its label, its step scores (0.001 times summed log-ratios).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Record:
    answer: str | None
    correct: bool
    steps: list[float]


def outputs(problem: list[Record], reference: str) -> list[str]:
    """`extracted_output`: right answers became the reference, what was not parsed prints as None."""
    merged = []
    for record in problem:
        if record.correct:
            merged.append(reference)
        else:
            merged.append(str(record.answer))
    return merged


def integrate(steps: list[float], which: str, accumulative: bool) -> float:
    """One score of padded step scores: padding is 1e3, which min ignores and sum takes as zero."""
    scores, running = [], 0.0
    for step in steps:
        running += step
        scores.append(running if accumulative else step)
    padded = scores + [1e3] * 3
    if which == "min":
        return min(padded)
    total = 0.0
    for score in padded:
        total += 0.0 if score == 1e3 else score
    return total


def evaluate(
    problems: list[list[Record]], references: list[str], n: int, which: str = "min", accumulative: bool = False
) -> dict[str, float]:
    """Accuracies in % at N of one way to score, each rounded to 0.1."""
    hits = {"bon": 0, "pass": 0, "sc": 0, "weighted": 0}
    for problem, reference in zip(problems, references, strict=True):
        first = problem[:n]
        said = outputs(problem, reference)[:n]
        scores = [integrate(record.steps, which, accumulative) for record in first]

        order = sorted(range(len(first)), key=lambda i: scores[i], reverse=True)  # stable: earliest of equals
        hits["bon"] += first[order[0]].correct

        hits["pass"] += sum(record.correct for record in first) > 0

        counts: dict[str, int] = {}
        for text in said:
            counts[text] = counts.get(text, 0) + 1
        most = None
        for text in said:
            if most is None or counts[text] > counts[most]:
                most = text
        assert most is not None
        hits["sc"] += first[said.index(most)].correct

        weight: dict[str, float] = {}
        for text, score in zip(said, scores, strict=True):
            weight[text] = weight.get(text, 0.0) + 1 / (1 + math.exp(-score))
        heaviest = None
        for text in weight:
            if heaviest is None or weight[text] > weight[heaviest]:
                heaviest = text
        hits["weighted"] += heaviest == reference
    return {name: round(count / len(problems) * 100, 1) for name, count in hits.items()}
