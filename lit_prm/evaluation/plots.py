"""The one style of all figures: panels, colours, bands for intervals, axes, a legend; PNG and SVG files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lit_prm.evaluation.estimate import Estimate
from lit_prm.storage.atomic import written_whole

COLOURS = (
    "#2f77d0", "#e0662c", "#2f9e6e", "#c2447f", "#8a63d2", "#b8860b", "#1f9aa8", "#8c6d5a", "#d14343", "#77808c",
)  # fmt: skip
_LINES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
INK, RULE = "#24282d", "#d5d8dc"  # in a page they become the page's own
Style = dict[str, Any]
MAJORITY: Style = {"color": INK, "linestyle": "--", "linewidth": 1}
ANY: Style = {"color": INK, "linestyle": ":", "linewidth": 1}
RANDOM: Style = {"color": "#77808c", "linestyle": ":", "linewidth": 1}
_LONGEST = 36  # characters of a name
ACCURACY = "accuracy of the chosen answer, %"


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour, line and marker of every name: ten colours, then the same with other lines and markers."""
    lines = [(colour, *line) for line in _LINES for colour in COLOURS]
    return {
        name: dict(zip(("color", "linestyle", "marker"), lines[i % len(lines)], strict=True))
        for i, name in enumerate(names)
    }


def panels(titles: Sequence[str], width: float = 3.4, height: float = 3.3, most: int = 3) -> tuple[Any, list[Any]]:
    """A figure with one panel per title, at most ``most`` in a row."""
    from matplotlib.figure import Figure  # half a second; no window, no global state

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
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    longest = max((len(name) for name in handles), default=1)
    width, height = figure.get_size_inches()
    columns = max(1, min(len(handles), int(width * 13 / (longest + 8))))
    figure.set_size_inches(width, height + 0.21 * (-(-len(handles) // columns) - 1))
    figure.legend(
        handles.values(), handles, loc="outside lower left", ncols=columns, frameon=False, fontsize=9, labelcolor=INK
    )


class Series(NamedTuple):
    """Estimates by their place on the horizontal axis, a name for the legend, a style, whether intervals are drawn."""

    points: Mapping[Any, Estimate]
    name: str
    style: Style
    band: bool = True
    notes: Sequence[str] = ()  # words beside the first points


def over_candidates(
    titles: Sequence[str], lines: Sequence[Sequence[Series]], ylabel: str = ACCURACY, most: int = 3, **size: Any
) -> Any:
    """A figure with a panel of lines over N for every title, at most ``most`` in a row."""
    figure, drawn = panels(titles, most=most, **size)
    for panel, of_panel in zip(drawn, lines, strict=True):
        draw_lines(panel, of_panel)
    for panel in drawn[::most]:
        panel.set_ylabel(ylabel)
    legend(figure, drawn)
    return figure


def draw_lines(panel: Any, lines: Sequence[Series]) -> None:
    """Lines over N in one panel, intervals as bands; the axis ends above the other lines, whatever any-of-N reaches."""
    for line in (line for line in lines if line.points):
        draw_over(panel, line)
    counts = sorted({n for line in lines for n in line.points})
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [f"{n:g}" for n in counts])
    panel.set_xlabel("candidates N")
    others = [(e, line.band) for line in lines if line.style != ANY for e in line.points.values()]
    if others and any(line.style == ANY for line in lines):
        panel.set_ylim(top=min(100.0, max(max(e.mean, e.high) if band else e.mean for e, band in others) + 6))


def draw_over(panel: Any, line: Series) -> None:
    """One line over its own horizontal places, its intervals as a band."""
    estimates = line.points.values()
    style = {"markersize": 3.5, "linewidth": 1.7, "label": text(line.name), **line.style}
    panel.plot(list(line.points), [e.mean for e in estimates], **style)
    if line.band:
        ends = [e.low for e in estimates], [e.high for e in estimates]
        panel.fill_between(list(line.points), *ends, color=style["color"], alpha=0.13, linewidth=0)


def over_flops(title: str, groups: Sequence[Series], ylabel: str = ACCURACY, **size: Any) -> Any:
    """A figure of estimates, with bars for their intervals, against the FLOPs that each point names."""
    figure, (panel,) = panels([title], **size)
    for group in groups:
        dots(panel, group)
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    low, high = low / 1.3, high * 1.3
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [m * 10.0**e for e in range(0, 30) for m in steps if low <= m * 10.0**e <= high]
    panel.set_xlim(low, high)
    panel.set_xticks(ticks, [f"{tick:.0e}".replace("e+", "e") for tick in ticks])
    panel.set_xticks([], minor=True)
    panel.set(xlabel="FLOPs of collecting data and training", ylabel=ylabel)
    legend(figure, [panel])
    return figure


def dots(panel: Any, group: Series) -> None:
    """Means at places of the horizontal axis, their intervals as bars."""
    estimates = group.points.values()
    ends = [[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]
    style = {"marker": "o", "markersize": 6, "capsize": 3, "linewidth": 1.3, "label": text(group.name), **group.style}
    panel.errorbar(list(group.points), [e.mean for e in estimates], ends, **style)
    for words, (x, estimate) in zip(group.notes, group.points.items(), strict=False):
        note(panel, words, x, estimate.mean, style["color"])


def note(panel: Any, words: str, x: float, y: float, colour: str) -> None:
    """Words beside a point, a little above it at its right."""
    panel.annotate(words, (x, y), (4, 4), textcoords="offset points", fontsize=8, color=colour)


def text(words: str) -> str:
    """The words as plain text: a dollar sign does not begin a formula."""
    return words.replace("\\", "\\\\").replace("$", r"\$") if "$" in words else words


def label(name: str) -> str:
    """The name of an experiment, the middle of a long one left out."""
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[1 - half :]}"


def save(figure: Any, *paths: Path) -> list[Path]:
    """Write the figure to every path, whole, on white, as its suffix says: .png or .svg; equal figures, equal bytes."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            if path.suffix.lower() == ".svg":
                partial.write_text(_svg(figure, "white"))
            else:
                with _canvas(figure) as canvas:
                    canvas.print_figure(partial, format="png", dpi=110, facecolor="white")
    return list(paths)


def inline(figure: Any, name: str) -> str:
    """SVG for a page: its ids begin with ``name``, ink and rules have the page's colours, text is text."""
    svg = _svg(figure, "none")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    wide = 1.3 * 72 * figure.get_size_inches()[0]  # letters are as high in every figure
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" style="max-width: {wide:.0f}px"', svg, count=1)
    return svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")


def _svg(figure: Any, background: str) -> str:
    made = io.StringIO()
    with _canvas(figure) as canvas:
        canvas.print_figure(made, format="svg", facecolor=background, metadata={"Date": None, "Creator": None})
    return made.getvalue()


@contextmanager
def _canvas(figure: Any) -> Iterator[Any]:
    """Text stays text, and the same figure gives the same ids."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    options = {"svg.fonttype": "none", "svg.hashsalt": "figure", "font.family": ["DejaVu Sans", "sans-serif"]}
    with matplotlib.rc_context(options):
        yield FigureCanvasAgg(figure)
