"""A named set of candidate groups, encoded once per distinct response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lit_prm.encoding import Encoded, Encoder
from lit_prm.records import Group


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Groups to choose among. Equal responses of a problem share one encoding and are scored once.

    ``source[r]`` is the row of ``encoded`` that scores the r-th response, counted over the groups.
    """

    name: str
    groups: tuple[Group, ...]
    encoded: tuple[Encoded, ...]
    source: NDArray[np.intp]

    @classmethod
    def of(cls, name: str, groups: Sequence[Group], encoder: Encoder) -> CandidateSet:
        """Encode the labelled groups; a problem without a labelled response cannot be judged and is refused."""
        bad = [g.problem.id for g in groups if not g.rollouts or any(r.correct is None for r in g.rollouts)]
        if bad:
            raise ValueError(
                f"candidate set {name!r}: {len(bad)} problems have no labelled responses, the first is {bad[0]!r}; "
                "give correctness for every response or drop these problems"
            )
        rows = encoder.encode(groups)
        first: dict[tuple[int, bytes], int] = {}
        source = np.array([first.setdefault((row.group, row.key), len(first)) for row in rows], dtype=np.intp)
        _, representatives = np.unique(source, return_index=True)
        encoded = tuple(replace(rows[i], row=u) for u, i in enumerate(representatives))
        return cls(name, tuple(groups), encoded, source)

    def split(self, per_response: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """One array per group from one array over all responses."""
        sizes = np.cumsum([len(g.rollouts) for g in self.groups])[:-1]
        return np.split(per_response, sizes)
