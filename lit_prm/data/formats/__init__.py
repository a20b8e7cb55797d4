"""Reading files of several layouts as groups, and writing groups as files."""

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
    """A row that could not be read, and why. ``place`` is file:line, or file:row in files without lines."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of a file or hub data set. ``rows`` counts refused rows too; ``digest`` changes with the content."""

    source: str
    layout: str
    groups: tuple[Group, ...]
    rows: int
    refused: tuple[RefusedRow, ...]
    digest: str


def read_groups(source: str, *, on_bad: Literal["raise", "skip"] = "raise") -> Reading:
    """The groups of a file or hub data set, in order of first appearance.

    The columns of the first row that fits a layout decide the layout of all rows. Ids are unique within the source. A
    row that cannot be read raises ValueError, or with ``on_bad="skip"`` is listed in ``refused``.
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
        raise ValueError(f"{source}: no row can be used{first}. Correct the file.")
    return Reading(
        source, collected.layout.name, tuple(collected.groups.values()), number, tuple(refused), table.digest
    )


@dataclass(slots=True)
class _Collected:
    """The groups so far, by prompt if the layout merges rows, otherwise by row; their ids are unique."""

    layout: Layout | None = None
    groups: dict[object, Group] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    def add(self, number: int, row: Any) -> None:
        if isinstance(row, BadRow):
            raise row
        layout = self.layout or layout_of(row)
        group = layout.read(row)
        self.layout = layout
        key = json.dumps([group.problem.prompt, group.problem.options]) if layout.merges else number
        if key in self.groups:
            group = joined(self.groups[key], group)
        else:
            group = replace(group, problem=replace(group.problem, id=self._id(group.problem.id or str(number))))
        self.groups[key] = group

    def _id(self, wanted: str) -> str:
        """``wanted``, with the first free number appended if another group has this id."""
        name, n = wanted, 1
        while name in self.ids:
            n += 1
            name = f"{wanted}-{n}"
        self.ids.add(name)
        return name


def joined(first: Group, more: Group) -> Group:
    """The responses of two rows with one prompt, and the gold answer that one of them or both give."""
    answers = list(dict.fromkeys(g.problem.answer for g in (first, more) if g.problem.answer is not None))
    if len(answers) > 1:
        raise BadRow(
            f"the gold answer is {answers[1]!r}, and an earlier row with this prompt has {answers[0]!r}; correct one"
        )
    problem = replace(first.problem, answer=next(iter(answers), None))
    return replace(first, problem=problem, rollouts=first.rollouts + more.rollouts)


def write_groups(path: Path, groups: Iterable[Group]) -> None:
    """Write groups as JSONL in the paper's columns; equal groups give equal bytes, and the file appears atomically.

    Law: reading the file gives back the groups if ids are unique, gold answers are final answers, and every first
    error has steps beside it.
    """
    write_rows(path, [group_row(group) for group in groups])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as JSONL: those that ``group_row`` makes, or rows with more columns."""
    refuse_unfit_name(path)
    used = {name for row in rows for name, value in row.items() if name in _ALWAYS or _known(value)}
    lines = (json.dumps({k: v for k, v in row.items() if k in used}, ensure_ascii=False) + "\n" for row in rows)
    data = "".join(lines).encode()
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def refuse_unfit_name(path: Path) -> None:
    """Raise ValueError unless the name ends with .jsonl or .jsonl.gz."""
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"{path}: groups are written as .jsonl or .jsonl.gz. Change the name.")


_ALWAYS = ("prompt", "completions", "correctness")


def _known(value: object) -> bool:
    """True if the value holds something; a column that holds nothing in any row is left out of the file."""
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
        "completions": [_completion(r, f"problem {problem.id}: response") for r in rollouts],
        "correctness": [r.correct for r in rollouts],
        "answers": [r.answer for r in rollouts],
        "steps": [None if r.steps is None else list(r.steps) for r in rollouts],
        "first_errors": [r.first_error for r in rollouts],
        "step_labels": [None if r.step_labels is None else [_or_null(v) for v in r.step_labels] for r in rollouts],
        "generators": [r.generator for r in rollouts],
        **({"error_kinds": kinds} if any(kinds := [r.error_kinds for r in rollouts]) else {}),
        **_template_columns(problem.options or {}),
    }


def _completion(rollout: Rollout, name: str) -> str | list[Message]:
    return [rollout.message] if rollout.message else sampled(rollout.response, rollout.correct, name)


def _template_columns(options: dict[str, Any]) -> dict[str, Any]:
    """The columns of a problem's options for the chat template; none without options."""
    more = {name: value for name, value in options.items() if name != "tools"}
    tools = {"tools": options["tools"]} if "tools" in options else {}
    return tools | ({"chat_template_kwargs": more} if more else {})
