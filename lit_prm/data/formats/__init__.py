"""Files in the layouts people have to groups, and groups to files."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lit_prm.data.formats.base import Layout
from lit_prm.data.formats.columns import BadRow, Row, sampled
from lit_prm.data.formats.layouts import layout_of
from lit_prm.data.formats.sources import open_source
from lit_prm.data.records import Group, Message, Rollout
from lit_prm.storage.atomic import written_whole

__all__ = ["Reading", "RefusedRow", "group_row", "read_groups", "refuse_unfit_name", "write_groups", "write_rows"]


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that is in no group, and why. ``place`` is file:line, in files without lines file:row."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source holds. ``rows`` counts the refused ones too; ``digest`` changes with the content."""

    source: str
    layout: str
    groups: tuple[Group, ...]
    rows: int
    refused: tuple[RefusedRow, ...]
    digest: str


def read_groups(source: str, *, on_bad: Literal["raise", "skip"] = "raise") -> Reading:
    """The groups of a file or hub data set, in order of first appearance; the columns tell the layout.

    The first row that fits a layout decides it for all. Ids are unique within the source.
    """
    table = open_source(source)
    collected = _Collected()
    refused: list[RefusedRow] = []
    number = 0
    for number, (place, row) in enumerate(table.rows, start=1):
        try:
            collected.add(number - 1, row)
        except BadRow as error:
            if on_bad == "raise":
                raise ValueError(f"{place}: {error}") from None
            refused.append(RefusedRow(place, str(error)))
    if collected.layout is None or not collected.groups:
        first = f"; the first of {number}: {refused[0].place}: {refused[0].reason}" if refused else ", it is empty"
        raise ValueError(f"{source}: no row can be used{first}; correct the file")
    return Reading(
        source, collected.layout.name, tuple(collected.groups.values()), number, tuple(refused), table.digest
    )


@dataclass(slots=True)
class _Collected:
    """Groups by prompt where the layout merges rows, otherwise by row; no two share an id."""

    layout: Layout | None = None
    groups: dict[object, Group] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    def add(self, number: int, row: Any) -> None:
        if isinstance(row, BadRow):
            raise row
        layout = self.layout or layout_of(row)
        group = layout.read(row)
        self.layout = layout
        key = json.dumps(group.problem.prompt) if layout.merges else number
        if key in self.groups:
            group = _merged(self.groups[key], group)
        else:
            group = replace(group, problem=replace(group.problem, id=self._id(group.problem.id or str(number))))
        self.groups[key] = _distinct(group) if layout.distinct else group

    def _id(self, wanted: str) -> str:
        """``wanted``, or with the first free number behind it: a row without a name may hit another's."""
        name, n = wanted, 1
        while name in self.ids:
            n += 1
            name = f"{wanted}-{n}"
        self.ids.add(name)
        return name


def _merged(first: Group, more: Group) -> Group:
    return replace(first, rollouts=first.rollouts + more.rollouts)


def _distinct(group: Group) -> Group:
    """Each (response, label) once, in order of appearance."""
    seen: dict[object, Rollout] = {}
    for rollout in group.rollouts:
        seen.setdefault((rollout.response, rollout.correct), rollout)
    return replace(group, rollouts=tuple(seen.values()))


def write_groups(path: Path, groups: Iterable[Group]) -> None:
    """Groups as JSONL in the paper's columns; equal groups give equal bytes, and no reader sees half a file.

    Law: reading it gives the groups back, when ids are unique, gold answers are final answers and first errors
    stand beside steps.
    """
    write_rows(path, [group_row(group) for group in groups])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Rows as ``group_row`` makes them, or with more columns, as JSONL."""
    refuse_unfit_name(path)
    used = {name for row in rows for name, value in row.items() if name in _ALWAYS or _known(value)}
    lines = (json.dumps({k: v for k, v in row.items() if k in used}, ensure_ascii=False) + "\n" for row in rows)
    data = "".join(lines).encode()
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def refuse_unfit_name(path: Path) -> None:
    """A name says whether the file is packed."""
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"{path}: groups are written as .jsonl or .jsonl.gz; change the name")


_ALWAYS = ("prompt", "completions", "correctness")


def _known(value: object) -> bool:
    """Whether a column says anything here: one that never does is left out of the file."""
    return any(v is not None for v in value) if isinstance(value, list) else value is not None


def _or_null(label: float) -> float | None:
    return None if math.isnan(label) else label


def group_row(group: Group) -> dict[str, Any]:
    """One problem with its responses in the paper's columns."""
    problem, rollouts = group.problem, group.rollouts
    prompt: str | list[Message] = problem.prompt if isinstance(problem.prompt, str) else list(problem.prompt)
    return {
        "prompt": prompt,
        "reference": problem.answer,
        "subject": problem.subject,
        "level": problem.level,
        "unique_id": problem.id,
        "completions": [sampled(r.response, r.correct, f"problem {problem.id}: response") for r in rollouts],
        "correctness": [r.correct for r in rollouts],
        "answers": [r.answer for r in rollouts],
        "steps": [None if r.steps is None else list(r.steps) for r in rollouts],
        "first_errors": [r.first_error for r in rollouts],
        "step_labels": [None if r.step_labels is None else [_or_null(v) for v in r.step_labels] for r in rollouts],
        "generators": [r.generator for r in rollouts],
    }
