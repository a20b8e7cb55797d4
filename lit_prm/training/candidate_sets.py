"""Candidate sets by name: made when first needed, shared by data modules of one process that read the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.training.sources import Sources

_CACHE: dict[tuple[object, ...], CandidateSet] = {}  # by the content of the file and the encoder's identity
MOST_CACHED = 32


class CandidateSets:
    """The candidate sets of a data module; each has at most ``limit`` problems, all without a limit."""

    def __init__(self, sources: Sources, limit: int | None) -> None:
        self.sources = sources
        self.limit = limit
        self.by_name: dict[str, CandidateSet] = {}

    def add(self, name: str, path: str, encoder: Encoder, *, judged: bool, say: Callable[[str], None]) -> None:
        """Read and encode a set, unless it is there; a set to be ``judged`` needs a label for every response."""
        known = self.by_name.get(name)
        if known is not None and (known.judged or not judged):
            return
        every = self.sources.read(name, path)
        groups = [g for g in every if g.rollouts]
        self.by_name[name] = self._cached(name, groups, encoder, judged)
        left = len(every) - len(groups)
        say(self.by_name[name].summary() + (f", {left} problems without responses left out" if left else ""))

    def _cached(self, name: str, groups: Sequence[Group], encoder: Encoder, judged: bool) -> CandidateSet:
        address = (name, self.sources.readings[name].digest, self.limit, encoder.identity, judged)
        if address not in _CACHE:
            made = CandidateSet.of(name, groups[: self.limit], encoder, judged=judged)
            if len(_CACHE) >= MOST_CACHED:
                _CACHE.clear()
            _CACHE[address] = made
        return _CACHE[address]
