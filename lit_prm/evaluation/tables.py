"""A table as data, and its two text writers: for the terminal and as Markdown. `reports/document.py` has the third."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

WIDTH = 80  # columns that every table of a run fits into
_STYLES = {"best": "bold", "gain": "bold green", "loss": "bold red", "quiet": "dim", "theirs": "dim italic"}
_MARKS = {"best": "**", "gain": "**", "loss": "**", "theirs": "*"}
_ACTIVE = re.compile(r"[\\`*_{}<>#|~$]|\](?=[(\[:])")


class Cell(str):
    """Text with a tone: ``best`` of its column, ``gain`` or ``loss`` beyond noise, ``quiet``, or ``theirs``."""

    __slots__ = ("tone",)
    tone: str

    def __new__(cls, text: str, tone: str = "") -> Cell:
        made = super().__new__(cls, text)
        made.tone = tone
        return made


@dataclass(frozen=True)
class Table:
    """Columns, rows of as many cells, and notes below; an empty row draws a rule.

    The first column holds labels. The others hold numbers, at the right and never broken, unless ``numbers`` is
    False; ``wraps`` lets a terminal break them too. A page shows a ``folded`` table on demand.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    numbers: bool = True
    wraps: bool = False
    folded: bool = False


def tone(cell: str) -> str:
    """The tone of a ``Cell``; a plain string has none."""
    return cell.tone if isinstance(cell, Cell) else ""


def show(tables: Sequence[Table | None], console: Console | None = None) -> None:
    """Print every table that has rows, each followed by its notes."""
    console = console or Console()
    for table in tables:
        if table is not None and table.rows:
            console.print(_rich(table))
            for note in table.notes:
                console.print(note, highlight=False, markup=False)


def _rich(table: Table) -> RichTable:
    width = min(len(table.title), WIDTH)  # a title over few columns would be broken
    made = RichTable(
        title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=width
    )
    for i, name in enumerate(table.columns):
        number = bool(i) and table.numbers
        made.add_column(Text(name), justify="right" if number else "left", no_wrap=number and not table.wraps)
    for row in table.rows:
        if row:
            made.add_row(*(Text(cell, style=_STYLES.get(tone(cell), "")) for cell in row))
        else:
            made.add_section()
    return made


def markdown(table: Table) -> str:
    """The title in bold, then the table, then its notes; text is shown as it is, never read as markup."""
    rule = ["---"] + ["---:" if table.numbers else "---"] * (len(table.columns) - 1)
    rows = [tuple(map(escaped, table.columns)), tuple(rule), *(tuple(map(_marked, row)) for row in table.rows if row)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n\n".join([*([f"**{escaped(table.title)}**"] if table.title else []), text, *map(escaped, table.notes)])


def _marked(cell: str) -> str:
    mark = _MARKS.get(tone(cell), "") if cell else ""
    return f"{mark}{escaped(cell)}{mark}"


def escaped(text: str) -> str:
    """The text on one line, with a backslash before every sign that Markdown or HTML would act on."""
    return _ACTIVE.sub(r"\\\g<0>", re.sub(r"\s+", " ", text))
