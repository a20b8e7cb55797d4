"""Which recorded run to make next: predecessors first, one run alone in a seed's new world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple


class SeededRun(NamedTuple):
    """One experiment with one seed."""

    experiment: str
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment} seed {self.seed}"


def with_predecessors(names: Iterable[str], predecessor: Callable[[str], str | None]) -> dict[str, str | None]:
    """Every name and what it comes after, each behind its predecessor; those not asked for are added."""
    ordered: dict[str, str | None] = {}

    def add(name: str, following: tuple[str, ...] = ()) -> None:
        if name in following:
            circle = " after ".join((*following[following.index(name) :], name))
            raise ValueError(f"experiments wait for each other: {circle}; remove an `after:` from their files")
        before = predecessor(name)
        if before is not None and before not in ordered:
            add(before, (*following, name))
        ordered.setdefault(name, before)

    for name in names:
        add(name)
    return ordered


class Schedule:
    """Jobs in their order, each started when nothing it needs is outstanding.

    ``after``: the experiment whose run of the same seed must have ended well, or the job is lost. ``shares``: the one
    whose run must not be outstanding, because both fill one cache. The first run of a seed makes its world, so no
    other of that seed starts until one has ended well.
    """

    def __init__(
        self,
        jobs: Sequence[SeededRun],
        after: Mapping[str, str | None],
        shares: Mapping[str, str],
        finished: Callable[[SeededRun], bool],
    ) -> None:
        self.ended = {job for job in jobs if finished(job)}
        self.waiting = [job for job in jobs if job not in self.ended]
        self.running: set[SeededRun] = set()
        self.lost: set[SeededRun] = set()
        self._after = after
        self._shares = shares

    @property
    def outstanding(self) -> int:
        """Jobs that wait or run."""
        return len(self.waiting) + len(self.running)

    def start(self) -> SeededRun | None:
        """The first job that may start now, taken as running; None when all that wait must go on waiting."""
        for job in self.waiting:
            if self._may_start(job):
                self.waiting.remove(job)
                self.running.add(job)
                return job
        return None

    def end(self, job: SeededRun, well: bool) -> list[SeededRun]:
        """Note how a job ended; returns those that are lost with it."""
        self.running.remove(job)
        (self.ended if well else self.lost).add(job)
        gone: list[SeededRun] = []
        for other in list(self.waiting):  # predecessors come first, so one pass reaches all
            if SeededRun(self._after.get(other.experiment) or "", other.seed) in self.lost:
                self.waiting.remove(other)
                self.lost.add(other)
                gone.append(other)
        return gone

    def _may_start(self, job: SeededRun) -> bool:
        before, sharing = self._after.get(job.experiment), self._shares.get(job.experiment)
        if before is not None and SeededRun(before, job.seed) not in self.ended:
            return False
        if sharing is not None and SeededRun(sharing, job.seed) in {*self.waiting, *self.running}:
            return False
        has_world = any(other.seed == job.seed for other in self.ended)
        return has_world or all(other.seed != job.seed for other in self.running)
