"""Candidate sets: groups of responses, encoded once for each distinct response, with clusters of equal answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from lit_prm.answers import cluster, guess_answer, told
from lit_prm.data.batch import Encoded
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Groups of candidates for selection. Equal responses of a problem share one encoding and are scored once.

    ``source[r]`` is the row of ``encoded`` for the r-th response, counted over all groups. ``clusters[r]`` numbers its
    answer within the problem: equal for equivalent answers, -1 without an answer. Without ``own_steps`` the
    scored steps are tokens, and the responses' step labels do not apply. A set that is scored but not ``judged`` may
    lack labels, and its answers are not compared.
    """

    name: str
    groups: tuple[Group, ...]
    encoded: tuple[Encoded, ...]
    source: NDArray[np.intp]
    clusters: NDArray[np.intp]
    own_steps: bool = True
    judged: bool = True

    @classmethod
    def of(cls, name: str, groups: Sequence[Group], encoder: Encoder, *, judged: bool = True) -> CandidateSet:
        """Encode the groups. With ``judged`` every response needs a label."""
        if not groups:
            raise ValueError(
                f"The candidate set {name!r} has no problem with responses. Give another file, or remove the set."
            )
        refuse_unfit(name, groups, judged)
        rows = encoder.encode(groups)
        first: dict[tuple[int, bytes, bytes], int] = {}  # equal responses may have other steps in the file
        keys = ((row.group, row.key, row.step.tobytes()) for row in rows)
        source = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.intp)
        _, representatives = np.unique(source, return_index=True)
        encoded = tuple(replace(rows[i], row=u) for u, i in enumerate(representatives))
        clusters = answer_clusters(name, groups) if judged else np.full(len(source), -1)
        return cls(name, tuple(groups), encoded, source, clusters, encoder.own_steps, judged)

    def summary(self) -> str:
        """One line: numbers of problems, of candidates per problem and of truncated responses."""
        sizes = sorted({len(g.rollouts) for g in self.groups})
        truncated = sum(self.encoded[u].truncated for u in self.source)
        candidates = "-".join(str(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
        cut = f", {truncated} of {len(self.source)} responses truncated" if truncated else ""
        return f"{self.name}: {len(self.groups)} problems, {candidates} candidates each{cut}"


def split(groups: Sequence[Group], per_response: NDArray[Kind]) -> list[NDArray[Kind]]:
    """One array per group from one array over all responses."""
    return np.split(per_response, np.cumsum([len(g.rollouts) for g in groups])[:-1])


def refuse_unfit(name: str, groups: Sequence[Group], judged: bool = True) -> None:
    """Raise ValueError if a problem has no response or, with ``judged``, a response without a label."""
    bad = [g.problem.id for g in groups if not g.rollouts or (judged and any(r.correct is None for r in g.rollouts))]
    if bad:
        what, remedy = "responses", "give some"
        if judged:
            what = "labelled responses"
            remedy = "give correctness (in rows of one response: label), use predict or score to do without,"
        raise ValueError(
            f"candidate set {name!r}: {len(bad)} problems have no {what}, the first is {bad[0]!r}; "
            f"{remedy} or drop these problems"
        )


def answer_clusters(name: str, groups: Sequence[Group]) -> NDArray[np.intp]:
    """[R] number of each response's answer within its problem, -1 without one; missing answers are extracted."""
    clusters: list[int] = []
    with told(f"votes of {name}"):
        for group in _watched(f"{name}: comparing answers", groups):
            clusters += cluster([guess_answer(r.response) if r.answer is None else r.answer for r in group.rollouts])
    return np.array(clusters, dtype=np.intp)


def _watched(label: str, groups: Sequence[Group], patience: float = 2.0) -> Iterator[Group]:
    """Yield the groups; shows a progress bar after ``patience`` seconds."""
    progress = Progress(transient=True)
    task = progress.add_task(label, total=len(groups))
    patient_until = monotonic() + patience
    try:
        for done, group in enumerate(groups):
            if not progress.live.is_started and monotonic() > patient_until:
                progress.start()
            progress.update(task, completed=done)
            yield group
    finally:
        if progress.live.is_started:
            progress.stop()
