"""The report as Markdown; text of runs is shown as it is, never read as markup."""

from __future__ import annotations

import re

from lit_prm.reports.compare.cells import Table, tone
from lit_prm.reports.compare.document import Report, Section

_MOST_ROWS = 60  # of a table that is folded in the page
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def markdown(report: Report) -> str:
    """The whole text; figures are read from `figures/` beside it."""
    parts = [f"# {escaped(report.title)}", escaped(report.source)]
    if report.warnings:
        parts.append("\n".join(f"- **{escaped(warning)}**" for warning in report.warnings))
    return "\n\n".join([*parts, *map(_section, report.sections)]) + "\n"


def _section(section: Section) -> str:
    parts = [f"## {escaped(section.title)}", escaped(section.words)]
    parts += [f"![{escaped(section.title)}](figures/{name}.png)" for name in section.figures]
    parts += [table_text(table) if _fits(table) else _left_out(table) for table in section.tables]
    return "\n\n".join(part for part in parts if part)


def _fits(table: Table) -> bool:
    return not table.folded or len(table.rows) <= _MOST_ROWS


def _left_out(table: Table) -> str:
    return f"**{escaped(table.title)}**: {len(table.rows)} rows, in `report.html`"


def table_text(table: Table) -> str:
    """Its title in bold above it; the best and what is beyond noise in bold."""
    rule = ["---"] + ["---:" if table.numbers else "---"] * (len(table.heading) - 1)
    rows = [tuple(map(escaped, table.heading)), tuple(rule), *(tuple(map(_cell, row)) for row in table.rows)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"**{escaped(table.title)}**\n\n{text}" if table.title else text


def _cell(cell: str) -> str:
    text = escaped(cell)
    return f"**{text}**" if text and tone(cell) in ("best", "gain", "loss") else text


def escaped(text: str) -> str:
    """On one line, with every sign that Markdown or HTML would act on behind a backslash."""
    return _ACTIVE.sub(r"\\\1", re.sub(r"\s+", " ", text))
