"""The order of runs: a run starts after its predecessor, and one run alone makes the data of its seed."""

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
    """Name -> its predecessor or None, predecessors first; predecessors that are not in ``names`` are added."""
    ordered: dict[str, str | None] = {}

    def add(name: str, following: tuple[str, ...] = ()) -> None:
        if name in following:
            circle = " after ".join((*following[following.index(name) :], name))
            raise ValueError(
                f"The experiments wait for each other: {circle}. Remove an `after:` from one of their files."
            )
        before = predecessor(name)
        if before is not None and before not in ordered:
            add(before, (*following, name))
        ordered.setdefault(name, before)

    for name in names:
        add(name)
    return ordered


class Schedule:
    """Jobs in their order; a job starts when all runs that it needs have ended.

    ``after`` names the experiment whose run of the same seed must end well; else the job is lost. ``shares`` names the
    experiment that fills the same cache: its run must not be waiting or running. The first run of a seed builds the
    data of that seed, so no other run of the seed starts until one has ended well.
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
        """How many jobs wait or run."""
        return len(self.waiting) + len(self.running)

    def start(self) -> SeededRun | None:
        """Take the first job that may start and mark it as running; None if no waiting job may start."""
        for job in self.waiting:
            if self._may_start(job):
                self.waiting.remove(job)
                self.running.add(job)
                return job
        return None

    def end(self, job: SeededRun, well: bool) -> list[SeededRun]:
        """Record how a job ended; returns the jobs that are lost with it."""
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
