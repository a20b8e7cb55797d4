"""HTML pages that need nothing else: Jinja escapes every text, so text of runs is data there, never markup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lit_prm.evaluation.tables import tone
from lit_prm.reports.document import Report


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
