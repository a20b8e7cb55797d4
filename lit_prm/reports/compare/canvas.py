"""Figures as files and as inline SVG: one style, one colour per experiment, no window, no global state."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_prm.storage.atomic import written_whole

_COLOURS = (
    "#2f77d0", "#e0662c", "#2f9e6e", "#c2447f", "#8a63d2", "#b8860b", "#1f9aa8", "#8c6d5a", "#d14343", "#77808c",
)  # fmt: skip
_LINES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
INK, RULE = "#24282d", "#d5d8dc"  # in a page they become the page's own
Style = dict[str, Any]
_LONGEST = 36  # characters of a name


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour, line and marker of every experiment: ten colours, then the same with other lines and markers."""
    lines = [(colour, *line) for line in _LINES for colour in _COLOURS]
    drawn = (lines[i % len(lines)] for i in range(len(names)))
    return {
        name: {"color": colour, "linestyle": line, "marker": marker}
        for name, (colour, line, marker) in zip(names, drawn, strict=True)
    }


def panels(titles: Sequence[str], width: float = 3.4, height: float = 3.3, most: int = 3) -> tuple[Any, list[Any]]:
    """A figure with one panel per title, at most ``most`` in a row."""
    from matplotlib.figure import Figure  # half a second

    columns = min(len(titles), most)
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.5), layout="constrained")
    made = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in made[len(titles) :]:
        spare.remove()
    for panel, title in zip(made, titles, strict=False):
        panel.set_title(text(title), fontsize=10, loc="left", color=INK)
        _dress(panel)
    return figure, made[: len(titles)]


def _dress(panel: Any) -> None:
    panel.set_facecolor("none")
    panel.grid(color=RULE, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["bottom", "left"]].set_color(RULE)
    panel.tick_params(colors=INK, labelsize=8.5, length=0)
    panel.xaxis.label.set(color=INK, fontsize=9)
    panel.yaxis.label.set(color=INK, fontsize=9)


def legend(figure: Any, drawn: Sequence[Any]) -> None:
    """Every label once, below all panels, which stay as high as they are."""
    handles: dict[str, Any] = {}
    for panel in drawn:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    longest = max((len(label) for label in handles), default=1)
    columns = max(1, min(len(handles), int(figure.get_size_inches()[0] * 16 / (longest + 8))))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.21 * (-(-len(handles) // columns) - 1))
    figure.legend(
        handles.values(), handles, loc="outside lower left", ncols=columns, frameon=False, fontsize=9, labelcolor=INK
    )


def text(words: str) -> str:
    """Words that are not mathematics, whatever signs are in them."""
    return words.replace("\\", "\\\\").replace("$", r"\$") if "$" in words else words


def label(name: str) -> str:
    """The name of an experiment, the middle of a long one left out."""
    half = _LONGEST // 2
    return text(name if len(name) <= _LONGEST else f"{name[:half]}…{name[1 - half :]}")


def save(figure: Any, path: Path) -> list[Path]:
    """Writes ``path`` with .png on white and with .svg, each whole; returns the two files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    png, svg = (path.with_name(path.name + kind) for kind in (".png", ".svg"))
    with written_whole(png) as partial, _canvas(figure) as canvas:
        canvas.print_figure(partial, format="png", dpi=140, facecolor="white")
    with written_whole(svg) as partial:
        partial.write_text(_svg(figure, path.name, "white"))
    return [png, svg]


def inline(figure: Any, name: str) -> str:
    """SVG for a page: its ids begin with ``name``, ink and rules have the page's colours, text is text."""
    svg = _svg(figure, name, "none")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    wide = 1.3 * 72 * figure.get_size_inches()[0]  # letters are as high in every figure
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" style="max-width: {wide:.0f}px"', svg, count=1)
    return svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")


def _svg(figure: Any, name: str, background: str) -> str:
    made = io.StringIO()
    with _canvas(figure, name) as canvas:
        canvas.print_figure(made, format="svg", facecolor=background, metadata={"Date": None, "Creator": None})
    return made.getvalue()


@contextmanager
def _canvas(figure: Any, name: str = "") -> Iterator[Any]:
    """Text stays text, and the same figure gives the same ids."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    options = {"svg.fonttype": "none", "svg.hashsalt": name or "figure", "font.family": ["DejaVu Sans", "sans-serif"]}
    with matplotlib.rc_context(options):
        yield FigureCanvasAgg(figure)
