"""What the paper measured, typed: `paper_numbers.yaml` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean

import yaml

GENERATORS = {"weaker": "Mistral-7B", "test": "Llama-3.1-8B", "stronger": "Llama-3.1-70B"}
"""Our candidate sets and the paper's generators that they stand for."""

PAPER_ROW = {"shepherd-8resp-hard": "shepherd-8resp", "shepherd-8resp-soft": "shepherd-8resp"}
"""The paper's row where it is not called like ours; it doesn't say which labels it used."""

COUNTS = (4, 16, 64)
_CURVE_COUNTS = (2, 4, 8, 16, 32, 64)
_WITH_CELLS = ("table-1", "table-2", "table-5")
_WITH_CURVES = ("figure-4", "figure-5")


@dataclass(frozen=True)
class PaperRow:
    """Accuracy in % of one method by candidate set and N."""

    label: str
    accuracy: Mapping[str, Mapping[int, float]]

    def mean(self, sets: Sequence[str] = tuple(GENERATORS), counts: Sequence[int] = COUNTS) -> float:
        """Over sets and N; of the published cells, whatever average was printed beside them."""
        return fmean(self.accuracy[name][n] for name in sets for n in counts)


@dataclass(frozen=True)
class Paper:
    """All numbers; a method goes by the name of our experiment."""

    rows: Mapping[str, PaperRow]
    majority: float  # mean over sets and N
    votes: Mapping[str, float]  # mean over sets and N of best-of-N weighted by votes
    flops: Mapping[str, float]
    cost_ratios: Mapping[str, float]  # to CE
    policy: Mapping[str, float]  # accuracy of the reward model as a policy


@cache
def paper() -> Paper:
    """The paper's numbers; `random` is its first sample, the same at every N."""
    facts = yaml.safe_load((files("lit_prm.reports") / "paper_numbers.yaml").read_text())
    first = facts["first_sample"]
    rows = {
        "random": PaperRow("first sample", {name: dict.fromkeys((1, *_CURVE_COUNTS), first[name]) for name in first})
    }
    for sections, field, counts in ((_WITH_CELLS, "cells", COUNTS), (_WITH_CURVES, "curves", _CURVE_COUNTS)):
        for section in sections:
            for name, row in facts[section].items():
                assert name not in rows, f"{name} stands twice in paper_numbers.yaml"
                accuracy = {s: {1: first[s], **dict(zip(counts, row[field][s], strict=True))} for s in GENERATORS}
                rows[name] = PaperRow(row["label"], accuracy)
    votes = facts["figure-3"]
    return Paper(rows, votes["majority"], votes["votes"], facts["figure-1"], facts["figure-2"], facts["table-3"])
