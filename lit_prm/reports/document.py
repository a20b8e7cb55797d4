"""A report as data: sections of words, figures and tables; and its Markdown writer. `html.py` writes the page."""

from __future__ import annotations

from dataclasses import dataclass

from lit_prm.evaluation.tables import Table, escaped
from lit_prm.evaluation.tables import markdown as table_text

_MOST_ROWS = 60  # of a table that is folded in the page


@dataclass(frozen=True)
class Section:
    """A heading, a few sentences of the program's own (Markdown, no text of runs), names of figures, tables."""

    title: str
    words: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A title, where the numbers come from, warnings, sections."""

    title: str
    source: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]


def some(*tables: Table | None) -> tuple[Table, ...]:
    """The tables that have rows."""
    return tuple(table for table in tables if table is not None and table.rows)


def markdown(report: Report) -> str:
    """The whole report; it shows `figures/<name>.png` beside it."""
    parts = [f"# {escaped(report.title)}", escaped(report.source)]
    if report.warnings:
        parts.append("\n".join(f"- **{escaped(warning)}**" for warning in report.warnings))
    return "\n\n".join([*parts, *map(_section, report.sections)]) + "\n"


def _section(section: Section) -> str:
    parts = [f"## {escaped(section.title)}", section.words]
    parts += [f"![{escaped(section.title)}](figures/{name}.png)" for name in section.figures]
    parts += [table_text(table) if _fits(table) else _left_out(table) for table in section.tables]
    return "\n\n".join(part for part in parts if part)


def _fits(table: Table) -> bool:
    return not table.folded or len(table.rows) <= _MOST_ROWS


def _left_out(table: Table) -> str:
    return f"**{escaped(table.title)}**: {len(table.rows)} rows, in `report.html`"
