"""The paper's figures from recorded runs, as PNG files without window or global state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lit_prm.commands.paper.claims import COST
from lit_prm.commands.paper.methods import BASELINES_BY_COST, CE_BY_COST, DPO_BY_COST, LABELS, VOTERS, shared
from lit_prm.commands.paper.results import Line, PaperResults
from lit_prm.reports.compare.estimates import Estimate
from lit_prm.reports.paper_numbers import COUNTS, GENERATORS
from lit_prm.storage.atomic import written_whole

Styled = tuple[Line, str, dict[str, Any]]  # what to draw, its label, how

_N = (1, 2, 4, 8, 16, 32, 64)
_DARK = {"dpo": "#1b4f9c", "ce": "#c8501e"}
_SHADES = {
    "dpo": ("#a9c7ea", "#6a9fd8", "#3573b9", "#14396f"),
    "ce": ("#f5c09c", "#ec9057", "#cf5a1f", "#8a3309"),
}
_MAJORITY = {"color": "black", "linestyle": "--", "marker": ""}
_CHANCE = {"color": "0.45", "linestyle": ":", "marker": ""}


def draw_all(results: PaperResults, folder: Path, scale: str) -> list[str]:
    """Write every figure that has something to show to `paper-<scale>-<name>.png`; returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    return [name for name, draw in FIGURES.items() if draw(results, folder / f"paper-{scale}-{name}.png")]


# --- curves over N --------------------------------------------------------------------------------


def _losses(results: PaperResults, path: Path) -> bool:
    """Table 1 as curves: losses and baselines beside majority vote and chance."""
    drawn = (
        ("dpo-8resp", _DARK["dpo"], "-"), ("nca-8resp", "#2a9d8f", "-"), ("ce-8resp", _DARK["ce"], "-"),
        ("kto-8resp", "#c9a227", "-"), ("shepherd-8resp-hard", "#7b3fa0", "-."), ("autopsv-8resp", "#c2649a", "-."),
        ("orm-8resp", "#6b6b6b", "-."),
    )  # fmt: skip
    lines: list[Styled] = [(Line(n), LABELS[n], {"color": c, "linestyle": s}) for n, c, s in drawn]
    untrained = (
        shared(results, "bon/reference-min"),
        "Reference log-likelihood",
        {"color": "#3a7d34", "linestyle": ":"},
    )
    return _rows_of_panels(results, path, [("", [*lines, untrained, *_baselines(results)])])


def _instructions(results: PaperResults, path: Path) -> bool:
    names = {loss: [f"{loss}-8resp-{share}inst" for share in (25, 50, 75)] + [f"{loss}-8resp"] for loss in _SHADES}
    labels = ("25 %", "50 %", "75 %", "100 % of the instructions")
    return _rows_of_panels(results, path, [_family(results, loss, names[loss], labels) for loss in _SHADES])


def _responses(results: PaperResults, path: Path) -> bool:
    rows = []
    for loss, names in (("dpo", DPO_BY_COST), ("ce", CE_BY_COST)):
        counts = [name.partition("-")[2].removesuffix("resp") for name in names]
        labels = [f"{count} response{'s' if count != '1' else ''}" for count in counts]
        rows.append(_family(results, loss, names, labels))
    return _rows_of_panels(results, path, rows)


def _family(results: PaperResults, loss: str, names: Sequence[str], labels: Sequence[str]) -> tuple[str, list[Styled]]:
    """One loss from little to much data, light to dark."""
    shades = _SHADES[loss][-len(names) :]
    lines: list[Styled] = [
        (Line(n), label, {"color": shade}) for n, label, shade in zip(names, labels, shades, strict=True)
    ]
    return loss.upper(), [*lines, *_baselines(results)]


def _baselines(results: PaperResults) -> list[Styled]:
    return [
        (shared(results, "majority"), "Majority vote", _MAJORITY),
        (shared(results, "bon/random"), "One at random", _CHANCE),
    ]


def _rows_of_panels(results: PaperResults, path: Path, rows: Sequence[tuple[str, Sequence[Styled]]]) -> bool:
    """One panel per candidate set, one row per (title, lines), a legend at each row's right end."""
    if not any(_curve(results, line, name) for _, lines in rows for line, _, _ in lines for name in results.sets):
        return False
    figure, panels = _figure(len(rows), len(results.sets))
    for (title, lines), row in zip(rows, panels, strict=True):
        for name, panel in zip(results.sets, row, strict=True):
            for line, label, style in lines:
                _draw_curve(panel, _curve(results, line, name), label, style)
            _dress(panel, f"{title + ': ' if title else ''}{name} ({GENERATORS[name]})")
        row[0].set_ylabel("accuracy of the chosen answer, %")
        row[-1].legend(*_legend(row), loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9, frameon=False)
    return _save(figure, path)


def _curve(results: PaperResults, line: Line, name: str) -> dict[int, Estimate]:
    found = {n: results.estimate(line, (name,), (n,)) for n in _N}
    return {n: estimate for n, estimate in found.items() if estimate is not None}


def _draw_curve(panel: Any, curve: dict[int, Estimate], label: str, style: dict[str, Any]) -> None:
    """The mean, with the band of its interval where something was trained."""
    if not curve:
        return
    mean, low, high, _ = zip(*curve.values(), strict=True)
    panel.plot(list(curve), mean, label=label, **{"marker": "o", "markersize": 3.5, "linewidth": 1.6, **style})
    if style.get("marker") != "":
        panel.fill_between(list(curve), low, high, color=style["color"], alpha=0.10, linewidth=0)


def _dress(panel: Any, title: str) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(_N, [str(n) for n in _N])
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("candidates N")


def _legend(row: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Every label of the row once."""
    handles: dict[str, Any] = {}
    for panel in row:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    return list(handles.values()), list(handles)


# --- costs and votes ------------------------------------------------------------------------------


def _cost(results: PaperResults, path: Path) -> bool:
    """Figure 1: mean best of the most candidates against FLOPs of data and training."""
    figure, panels = _figure(1, 1, width=8.5, height=4.6)
    panel = panels[0][0]
    drawn = [
        _draw_cost(results, panel, names, **style)
        for names, style in (
            (CE_BY_COST, {"label": "CE, 1 to 8 responses", "color": _DARK["ce"]}),
            (DPO_BY_COST, {"label": "DPO, 2 to 8 responses", "color": _DARK["dpo"]}),
            *(
                ((name,), {"label": LABELS[name], "color": c})
                for name, c in zip(BASELINES_BY_COST, _OTHERS, strict=True)
            ),
        )
    ]
    if not any(drawn):
        return False
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    ticks = [m * 10.0**e for e in range(9, 27) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    panel.set_xticks(ticks, [f"{tick:.0e}".replace("e+", "e") for tick in ticks])
    panel.set_xticks([], minor=True)  # whose labels would lie over each other
    panel.set(xlabel="FLOPs of collecting data and training", ylabel=f"mean best of {COUNTS[-1]}, %")
    panel.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return _save(figure, path)


_SHORT = {"kto": "KTO", "nca": "NCA", "dpo": "DPO", "ce": "CE", "infonca": "InfoNCA", "ipvrm": "IPVRM"}
_OTHERS = ("#b79ad6", "#7b3fa0", "#4a1a6b", "#c2649a", "#6b6b6b", "#a8a8a8")


def _draw_cost(results: PaperResults, panel: Any, names: Sequence[str], label: str, color: str) -> bool:
    points, numbers = [], []
    for name in names:
        flops, found = results.metric(name, COST), results.estimate(Line(name), counts=COUNTS[-1:])
        if flops and found is not None:
            points.append((fmean(flops), found))
            numbers.append(name.partition("-")[2].removesuffix("resp") if len(names) > 1 else "")
    if points:
        x, mean = [x for x, _ in points], [e.mean for _, e in points]
        ends = [[e.mean - e.low for _, e in points], [e.high - e.mean for _, e in points]]
        panel.errorbar(x, mean, ends, label=label, color=color, marker="o", markersize=5, capsize=3, linewidth=1.4)
        for at, height, text in zip(x, mean, numbers, strict=True):
            panel.annotate(text, (at, height), (5, 4), textcoords="offset points", fontsize=8, color=color)
    return bool(points)


def _votes(results: PaperResults, path: Path) -> bool:
    """Figure 3: best-of-N and weighted votes of every loss beside the majority vote."""
    names = [name for name in VOTERS if results.estimate(Line(name))]
    if not names:
        return False
    figure, panels = _figure(1, 1, width=6.5, height=4.2)
    panel = panels[0][0]
    for curve, label, color, shift in (
        ("bon/min", "best-of-N", "0.55", -0.1),
        ("vote/min", "weighted vote", "#c8501e", 0.1),
    ):
        found = [(i, results.estimate(Line(name, curve))) for i, name in enumerate(names)]
        known = [(i + shift, e) for i, e in found if e is not None]
        panel.errorbar(
            [i for i, _ in known], [e.mean for _, e in known], [e.half for _, e in known],
            label=label, color=color, marker="o", markersize=7, capsize=4, linestyle="",
        )  # fmt: skip
    if majority := results.estimate(shared(results, "majority")):
        panel.axhline(majority.mean, color="black", linestyle="--", linewidth=1.2, label="majority vote")
        panel.axhspan(majority.low, majority.high, color="black", alpha=0.07, linewidth=0)
    panel.set_xticks(range(len(names)), [_SHORT[name.partition("-")[0]] for name in names])
    panel.set_xlim(-0.5, len(names) - 0.5)
    panel.set_ylabel("accuracy, mean over sets and N, %")
    panel.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return _save(figure, path)


# --- canvas ---------------------------------------------------------------------------------------


def _figure(rows: int, columns: int, width: float | None = None, height: float = 3.4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # half a second; no window, no global state

    size = (width or 3.6 * columns + 2.2, height * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _save(figure: Any, path: Path) -> bool:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(110)
    with written_whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))
    return True


FIGURES: dict[str, Callable[[PaperResults, Path], bool]] = {
    "losses": _losses,
    "cost": _cost,
    "votes": _votes,
    "instructions": _instructions,
    "responses": _responses,
}
