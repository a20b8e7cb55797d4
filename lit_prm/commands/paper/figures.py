"""The paper's figures from recorded runs, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_prm.commands.paper.claims import COST
from lit_prm.commands.paper.methods import BY_COST, LABELS, ROWS
from lit_prm.commands.paper.results import Line, PaperResults
from lit_prm.evaluation import plots
from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.paper_numbers import COUNTS, GENERATORS

Lines = Sequence[tuple[Line, str, plots.Style]]  # the curve, its label, its style

_N = (1, 2, 4, 8, 16, 32, 64)
_DARK = {"dpo": plots.COLOURS[0], "ce": plots.COLOURS[1]}
_SHADES = {"dpo": ("#a9c7ea", "#6a9fd8", "#3573b9", "#14396f"), "ce": ("#f5c09c", "#ec9057", "#cf5a1f", "#8a3309")}


def draw_all(results: PaperResults, folder: Path, scale: str) -> list[str]:
    """Write every figure that has something to show to `paper-<scale>-<name>.png`; returns the names."""
    drawn = {name: figure for name, draw in FIGURES.items() if (figure := draw(results)) is not None}
    for name, figure in drawn.items():
        plots.save(figure, folder / f"paper-{scale}-{name}.png")
    return list(drawn)


def _losses(results: PaperResults) -> Any | None:
    """Table 1 as curves: losses and baselines beside majority vote and chance."""
    names = (
        "dpo-8resp", "ce-8resp", "nca-8resp", "kto-8resp", "shepherd-8resp-hard", "autopsv-8resp", "orm-8resp",
    )  # fmt: skip
    lines = [(Line(name), LABELS[name], style) for name, style in plots.styles(names).items()]
    reference = (results.shared("bon/reference-min"), "Reference log-likelihood", plots.styles([*names, ""])[""])
    return _curves(results, {"": [*lines, reference]})


def _instructions(results: PaperResults) -> Any | None:
    shares = ("-25inst", "-50inst", "-75inst", "")
    labels = ("25 %", "50 %", "75 %", "100 % of the instructions")
    rows = {loss.upper(): _family(loss, [f"{loss}-8resp{share}" for share in shares], labels) for loss in _SHADES}
    return _curves(results, rows)


def _responses(results: PaperResults) -> Any | None:
    rows = {}
    for loss in _SHADES:
        names = BY_COST[loss]
        counts = [name.partition("-")[2].removesuffix("resp") for name in names]
        labels = [f"{count} response{'s' if count != '1' else ''}" for count in counts]
        rows[loss.upper()] = _family(loss, names, labels)
    return _curves(results, rows)


def _family(loss: str, names: Sequence[str], labels: Sequence[str]) -> Lines:
    """One loss from little to much data, light to dark."""
    shades = _SHADES[loss][-len(names) :]
    return [
        (Line(name), f"{loss.upper()}, {label}", {"color": shade, "marker": "o"})
        for name, label, shade in zip(names, labels, shades, strict=True)
    ]


def _curves(results: PaperResults, rows: Mapping[str, Lines]) -> Any | None:
    """One panel per candidate set, one row per (title, lines); every panel has the majority vote and chance."""
    places = [(title, name) for title in rows for name in results.sets]
    drawn = [
        [plots.Series(_points(results, line, name), label, style) for line, label, style in rows[title]]
        for title, name in places
    ]
    if not any(line.points for lines in drawn for line in lines):
        return None
    for (_, name), lines in zip(places, drawn, strict=True):
        for rule, label, style in (
            ("majority", "Majority vote", plots.MAJORITY), ("bon/random", "One at random", plots.RANDOM),
        ):  # fmt: skip
            lines.append(plots.Series(_points(results, results.shared(rule), name), label, style, band=False))
    titles = [f"{title + ': ' if title else ''}{name} ({GENERATORS[name]})" for title, name in places]
    return plots.over_candidates(titles, drawn, most=len(results.sets))


def _points(results: PaperResults, line: Line, name: str) -> dict[int, Estimate]:
    return {n: estimate for n in _N if (estimate := results.estimate(line, (name,), (n,)))}


def _cost(results: PaperResults) -> Any | None:
    """Figure 1: mean best of the most candidates against FLOPs of data and training."""
    groups: list[tuple[Sequence[str], str, str]] = [
        (BY_COST["ce"], "CE, 1 to 8 responses", _DARK["ce"]), (BY_COST["dpo"], "DPO, 2 to 8 responses", _DARK["dpo"]),
    ]  # fmt: skip
    groups += [((n,), LABELS[n], colour) for n, colour in zip(BY_COST["baselines"], plots.COLOURS[2:], strict=False)]
    drawn = [group for names, label, colour in groups if (group := _by_cost(results, names, label, colour)).points]
    ylabel = f"mean best of {COUNTS[-1]}, %"
    return plots.over_flops("what accuracy costs", drawn, ylabel, width=8.1, height=4.1) if drawn else None


def _by_cost(results: PaperResults, names: Sequence[str], label: str, colour: str) -> plots.Series:
    """The experiments of one method; of several each point has its number of responses beside it."""
    points = {n: (results.experiment(n).mean(COST), results.estimate(Line(n), counts=COUNTS[-1:])) for n in names}
    known = {name: (flops, best) for name, (flops, best) in points.items() if flops and best is not None}
    notes = [name.partition("-")[2].removesuffix("resp") for name in known] if len(names) > 1 else []
    return plots.Series(dict(known.values()), label, {"color": colour}, notes=notes)


_SHORT = {"kto": "KTO", "nca": "NCA", "dpo": "DPO", "ce": "CE", "infonca": "InfoNCA", "ipvrm": "IPVRM"}


def _votes(results: PaperResults) -> Any | None:
    """Figure 3: best-of-N and weighted votes of every loss beside the majority vote."""
    names = [name for name in ROWS["figure-3"] if results.estimate(Line(name))]
    if not names:
        return None
    figure, (panel,) = plots.panels(["votes weighted by rewards"], width=6.1, height=3.7)
    for line, label, colour, shift in (
        ("bon/min", "best-of-N", plots.COLOURS[-1], -0.1),
        ("vote/min", "weighted vote", plots.COLOURS[1], 0.1),
    ):
        estimates = {i + shift: results.estimate(Line(name, line)) for i, name in enumerate(names)}
        known = {x: e for x, e in estimates.items() if e is not None}
        plots.dots(panel, plots.Series(known, label, {"color": colour, "linestyle": ""}))
    if majority := results.estimate(results.shared("majority")):
        panel.axhline(majority.mean, label="majority vote", **plots.MAJORITY)
        panel.axhspan(majority.low, majority.high, color=plots.INK, alpha=0.07, linewidth=0)
    panel.set_xticks(range(len(names)), [_SHORT[name.partition("-")[0]] for name in names])
    panel.set_xlim(-0.5, len(names) - 0.5)
    panel.set_ylabel("accuracy, mean over sets and N, %")
    plots.legend(figure, [panel])
    return figure


FIGURES: dict[str, Callable[[PaperResults], Any | None]] = {
    "losses": _losses,
    "cost": _cost,
    "votes": _votes,
    "instructions": _instructions,
    "responses": _responses,
}
"""Name of the file -> function that draws it; the function returns None where there is nothing to draw."""
