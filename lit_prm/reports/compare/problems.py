"""What a run recorded of every problem of a candidate set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Problems:
    """The recorded problems of one experiment, seed and candidate set; P of them, C numbers of candidates."""

    ids: tuple[str, ...]
    counts: tuple[int, ...]
    curves: Mapping[str, Any]  # name -> [P, C]

    def at(self, curve: str, counts: Sequence[int]) -> Iterator[tuple[str, float]]:
        """(problem, mean over ``counts``) wherever the curve is known; nothing when a count was not judged."""
        if curve in self.curves and set(counts) <= set(self.counts):
            means = self.curves[curve][:, [self.counts.index(n) for n in counts]].mean(1)
            yield from ((key, float(x)) for key, x in zip(self.ids, means, strict=True) if not math.isnan(x))

    def primary(self, method: str) -> str:
        """The curve that stands for ``method``: of ``bon`` and ``vote`` that of the run's primary aggregate."""
        return next((name for name in self.curves if name.partition("/")[0] == method), method)


def read_problems(file: Path) -> Problems:
    """A file of ``recording.write_judgement``; what is said of first errors holds at every N."""
    from lit_prm.evaluation.artifacts import read_rows  # two seconds of imports

    rows = read_rows(file)
    counts = tuple(rows[0]["counts"])
    curves = {name: np.array([row["curves"][name] for row in rows]) for name in rows[0]["curves"]}
    for rule in rows[0].get("first_error", {}):
        known = np.array([row["first_error"][rule] for row in rows], dtype=float)  # None becomes nan
        curves[f"first_error/{rule}"] = np.repeat(known[:, None], len(counts), 1)
    return Problems(tuple(str(row["problem"]) for row in rows), counts, curves)
