"""A report as data: sections of words, figures and tables; its Markdown writer and its HTML page by Jinja."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lit_prm.evaluation.tables import Table, escaped, tone
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
    for table in section.tables:
        too_long = table.folded and len(table.rows) > _MOST_ROWS
        left_out = f"**{escaped(table.title)}**: {len(table.rows)} rows, in `report.html`"
        parts.append(left_out if too_long else table_text(table))
    return "\n\n".join(part for part in parts if part)


def page(report: Report, figures: Mapping[str, str]) -> str:
    """The report as one page; ``figures`` are inline SVG by name."""
    drawn = {name: Markup(svg) for name, svg in figures.items()}  # made by our own plots
    return "".join(render("report.html", report=report, figures=drawn, style=Markup(source("report.css"))))


def render(template: str, **values: Any) -> Iterator[str]:
    """A template below `lit_prm/reports/`, in parts; values that are not ``Markup`` are escaped."""
    return _templates().get_template(template).generate(**values)


def source(name: str) -> str:
    """The text of a file below `lit_prm/reports/`."""
    return files("lit_prm.reports").joinpath(name).read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters["tone"] = tone
    return templates
