"""What a data module reads: files, each known by its role, e.g. "train", and the candidate sets made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from lit_prm.data.encoding import Encoder
from lit_prm.data.formats import Reading, read_groups
from lit_prm.data.formats.sources import names_file
from lit_prm.data.records import Group
from lit_prm.evaluation.candidates import CandidateSet

_CACHE: dict[tuple[object, ...], CandidateSet] = {}  # by the content of the file and the encoder's identity
MOST_CACHED = 32


class World(Protocol):
    """Builds the files of a data folder on first use, e.g. the embedded ``TinyMath``."""

    def build(self, root: Path) -> None:
        """Write every file under ``root``; return at once if they exist."""
        ...


class Sources:
    """Reads files relative to ``root``, and hub data sets where a name is not a file's."""

    def __init__(self, root: Path, bad_rows: Literal["raise", "skip"]) -> None:
        self.root = root
        self.bad_rows: Literal["raise", "skip"] = bad_rows
        self.readings: dict[str, Reading] = {}

    def read(self, role: str, path: str) -> Sequence[Group]:
        """The groups of the file that has this role; later calls return the same groups."""
        if role not in self.readings:
            local = self.root / Path(path).expanduser()
            source = str(local if local.exists() or names_file(path) else path)
            self.readings[role] = read_groups(source, on_bad=self.bad_rows)
        return self.readings[role].groups

    def fitting(self, groups: Sequence[Group], encoder: Encoder) -> Sequence[Group]:
        """The groups without those whose prompt leaves no room for a response, if bad rows are to be skipped."""
        return encoder.fitting(groups) if self.bad_rows == "skip" else groups

    def digests(self) -> dict[str, str]:
        """Content hash of every file that was read, by role."""
        return {role: reading.digest for role, reading in self.readings.items()}


class CandidateSets:
    """Candidate sets by name: made when first needed, shared by data modules of one process that read the same files.

    Each has at most ``limit`` problems, all without a limit.
    """

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
        with_responses = encoder.written_out([g for g in every if g.rollouts])
        groups = self.sources.fitting(with_responses, encoder)
        self.by_name[name] = self._cached(name, groups, encoder, judged)
        left, long = len(every) - len(with_responses), len(with_responses) - len(groups)
        said = f", {left} problems without responses left out" if left else ""
        say(self.by_name[name].summary() + said + (f", {long} with prompts that fill max_length" if long else ""))

    def _cached(self, name: str, groups: Sequence[Group], encoder: Encoder, judged: bool) -> CandidateSet:
        address = (name, self.sources.readings[name].digest, self.limit, encoder.identity, type(encoder.steps), judged)
        if address not in _CACHE:
            made = CandidateSet.of(name, groups[: self.limit], encoder, judged=judged)
            if len(_CACHE) >= MOST_CACHED:
                _CACHE.clear()
            _CACHE[address] = made
        return _CACHE[address]


def refuse_bad_sets(validation: dict[str, str], test: dict[str, str], files: dict[str, str]) -> None:
    """Raise ValueError if a set's name cannot be part of a metric's and a file's name, or stands for two files.

    "train" is the training data.
    """
    for name in {**validation, **test}:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ValueError(
                f"The name of candidate set {name!r} becomes part of metric names and file names, so it may hold only "
                f"letters A-Z, digits, _ . and -. Call the set {re.sub('[^A-Za-z0-9_.-]+', '-', name)!r}, for example."
            )
        if name in {"train", *files} or validation.get(name, test.get(name)) != test.get(name, validation.get(name)):
            raise ValueError(
                f"Candidate set {name!r} is the name of two files, and metrics could not be told apart. "
                "Give one of them another name."
            )
