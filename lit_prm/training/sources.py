"""The files that a data module reads: each is read once and known by its role, e.g. "train" or a set's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from lit_prm.data.formats import Reading, read_groups
from lit_prm.data.formats.sources import names_file
from lit_prm.data.records import Group


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

    def digests(self) -> dict[str, str]:
        """Content hash of every file that was read, by role."""
        return {role: reading.digest for role, reading in self.readings.items()}


def refuse_bad_names(names: Sequence[str]) -> None:
    """Raise ValueError unless every name can be part of a metric's and a file's name."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ValueError(
                f"The name of candidate set {name!r} becomes part of metric names and file names, so it may hold only "
                f"letters A-Z, digits, _ . and -. Call the set {re.sub('[^A-Za-z0-9_.-]+', '-', name)!r}, for example."
            )


def refuse_ambiguous(validation: dict[str, str], test: dict[str, str], files: dict[str, str]) -> None:
    """Raise ValueError if a set's name stands for two files; "train" is the training data."""
    for name in {**validation, **test}:
        if name in {"train", *files} or validation.get(name, test.get(name)) != test.get(name, validation.get(name)):
            raise ValueError(
                f"Candidate set {name!r} is the name of two files, and metrics could not be told apart. "
                "Give one of them another name."
            )
