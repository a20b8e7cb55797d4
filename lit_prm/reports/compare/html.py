"""The report as one HTML page that needs nothing else: text of runs is data there, never markup."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from lit_prm.reports.compare.cells import Table, tone
from lit_prm.reports.compare.document import Report, Section


def page(report: Report, figures: Mapping[str, str]) -> str:
    """The whole page; ``figures`` are inline SVG by name."""
    here = files("lit_prm.reports.compare")
    links = "".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(report.sections))
    told = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    return Template((here / "report.html").read_text()).substitute(
        style=(here / "report.css").read_text(),
        title=escape(report.title),
        source=escape(report.source),
        links=links,
        warnings=f'<ul class="warnings">{told}</ul>' if told else "",
        sections="\n".join(_section(i, s, figures) for i, s in enumerate(report.sections)),
    )


def _section(number: int, section: Section, figures: Mapping[str, str]) -> str:
    words = f"<p>{escape(section.words)}</p>" if section.words else ""
    drawn = "".join(f"<figure>{figures[name]}</figure>" for name in section.figures)
    made = "".join(map(_table, section.tables))
    return f'<section id="s{number}"><h2>{escape(section.title)}</h2>{words}{drawn}{made}</section>'


def _table(table: Table) -> str:
    heading = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in table.heading)
    rows = "".join(f"<tr>{''.join(_cell(i, cell) for i, cell in enumerate(row))}</tr>" for row in table.rows)
    kind = "numbers" if table.numbers else "words"
    made = (
        f'<div class="wide"><table class="{kind}"><thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
    if not table.title:
        return made
    if table.folded:
        return f"<details><summary>{escape(table.title)}</summary>{made}</details>"
    return f"<h3>{escape(table.title)}</h3>{made}"


def _cell(column: int, cell: str) -> str:
    if column == 0:
        return f"<th scope=row>{escape(cell)}</th>"
    kind = tone(cell)
    return f'<td class="{kind}">{escape(cell)}</td>' if kind else f"<td>{escape(cell)}</td>"
