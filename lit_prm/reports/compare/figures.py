"""The figures of a comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from lit_prm.evaluation.estimate import Estimate
from lit_prm.evaluation.plots import (
    ACCURACY,
    ANY,
    INK,
    MAJORITY,
    by_candidates,
    by_flops,
    curve,
    dots,
    label,
    legend,
    panels,
    styles,
)
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.tables import COST, METHODS
from lit_prm.reports.runs import Experiment

MOST_BANDS = 8  # more lie over each other


def curves(evidence: Evidence) -> Any | None:
    """Best-of-N of every experiment with its band; majority vote and any-of-N as lines."""
    if not evidence.sets:
        return None
    figure, drawn = panels(evidence.sets)
    for candidates, panel in zip(evidence.sets, drawn, strict=True):
        counts = evidence.counts((candidates,))
        found = {
            name: _known({n: evidence.estimate(name, "bon", (candidates,), (n,)) for n in counts})
            for name in evidence.names
        }
        _draw_curves(panel, evidence, found, evidence.names)
        for method, style in (("majority", MAJORITY), ("any", ANY)):
            curve(panel, _common(evidence, method, candidates), METHODS[method], {**style, "marker": ""}, band=False)
        by_candidates(panel, counts)
        _not_over_all(panel)
    drawn[0].set_ylabel(ACCURACY)
    legend(figure, drawn)
    return figure


def gains(evidence: Evidence) -> Any | None:
    """Best-of-N of every other experiment minus the first's, on the same problems: bands that exclude 0 are gains."""
    first, *others = evidence.names
    found = {s: {name: _differences(evidence, name, first, s) for name in others} for s in evidence.sets}
    if not any(points for of_set in found.values() for points in of_set.values()):
        return None
    figure, drawn = panels(evidence.sets)
    for candidates, panel in zip(evidence.sets, drawn, strict=True):
        panel.axhline(0, color=INK, linewidth=1, label=f"0 = {label(first)}")
        _draw_curves(panel, evidence, found[candidates], others)
        by_candidates(panel, evidence.counts((candidates,)))
    drawn[0].set_ylabel("points more than the first")
    legend(figure, drawn)
    return figure


def _differences(evidence: Evidence, ours: str, theirs: str, candidates: str) -> dict[int, Estimate]:
    counts = evidence.counts((candidates,))
    found = {n: evidence.difference(ours, theirs, "bon", (candidates,), (n,)) for n in counts}
    return {n: difference.estimate for n, difference in found.items() if difference is not None}


def _known(points: Mapping[int, Estimate | None]) -> dict[int, Estimate]:
    return {n: estimate for n, estimate in points.items() if estimate is not None}


def _draw_curves(
    panel: Any, evidence: Evidence, points: Mapping[str, Mapping[int, Estimate]], names: Sequence[str]
) -> None:
    """A curve per experiment in its own colour; bands while there are few."""
    style = styles(evidence.names)
    for name in names:
        curve(panel, points[name], name, style[name], band=len(evidence.names) <= MOST_BANDS)


def _common(evidence: Evidence, method: str, candidates: str) -> dict[int, Estimate]:
    """The mean over experiments of a rule that needs no scorer, without interval."""
    known = {
        n: [e.mean for e in (evidence.estimate(x, method, (candidates,), (n,)) for x in evidence.names) if e]
        for n in evidence.counts((candidates,))
    }
    return {n: Estimate(fmean(means), np.nan, np.nan) for n, means in known.items() if means}


def _not_over_all(panel: Any) -> None:
    """The axis ends where the chosen answers do, whatever any-of-N reaches."""
    lines = [line for line in panel.get_lines() if line.get_label() != METHODS["any"]]
    tops = [max(line.get_ydata()) for line in lines] + [
        path.get_extents().y1 for c in panel.collections for path in c.get_paths()
    ]
    if tops:
        panel.set_ylim(top=min(100.0, max(t for t in tops if not np.isnan(t)) + 6))


def cost(evidence: Evidence) -> Any | None:
    """Best of the most candidates, mean over sets, against FLOPs of collecting data and training."""
    counts = evidence.counts(evidence.sets)[-1:] if evidence.sets else ()
    points = {
        name: (flops, found)
        for name in evidence.names
        if (flops := evidence.experiments[name].mean(COST))
        and (found := evidence.estimate(name, "bon", evidence.sets, counts))
    }
    if not points:
        return None
    figure, (panel,) = panels([f"best of {counts[0]}, mean over {', '.join(evidence.sets)}"], width=6.2, height=3.6)
    style = styles(evidence.names)
    for name, point in points.items():
        dots(panel, [point], name, {"color": style[name]["color"]})
    by_flops(panel)
    panel.set_ylabel(ACCURACY)
    legend(figure, [panel])
    return figure


def training(evidence: Evidence) -> Any | None:
    """Training curves, the mean over seeds at every step that all seeds logged."""
    keys = dict.fromkeys(key for e in evidence.experiments.values() for run in e.runs for key in run.histories)
    if not keys:
        return None
    figure, drawn = panels([key.replace("@", " @") for key in keys], height=2.7, most=2 if len(keys) in (2, 4) else 3)
    for key, panel in zip(keys, drawn, strict=True):
        for name, style in styles(evidence.names).items():
            steps, means = _mean_curve(evidence.experiments[name], key)
            if steps:
                panel.plot(steps, means, linewidth=1.4, label=label(name), **{**style, "marker": ""})
        panel.set_xlabel("updates")
    legend(figure, drawn)
    return figure


def _mean_curve(experiment: Experiment, key: str) -> tuple[list[int], list[float]]:
    found = [dict(run.histories[key]) for run in experiment.runs if key in run.histories]
    steps = sorted(set.intersection(*(set(one) for one in found))) if found else []
    return steps, [fmean(one[step] for one in found) for step in steps]


def levels(evidence: Evidence) -> Any | None:
    """Best-of-N by level: experiments x levels, one panel per set, each cell with its number."""
    found = {s: _by_level(evidence, s) for s in evidence.sets}
    found = {s: grid for s, grid in found.items() if grid[1]}
    if not found:
        return None
    rows = len(evidence.names)
    titles = [f"{name}, best of {n}" for name, (n, _, _) in found.items()]
    figure, drawn = panels(titles, width=3.4, height=0.6 + 0.32 * rows, most=3)
    for i, (panel, (_, names, grid)) in enumerate(zip(drawn, found.values(), strict=True)):
        _draw_grid(panel, grid)
        panel.set_xticks(range(len(names)), names)
        panel.set_yticks(range(rows), [label(name) if not i % 3 else "" for name in evidence.names])
        panel.set_xlabel("level")
    return figure


def _by_level(evidence: Evidence, candidates: str) -> tuple[int, list[str], Any]:
    """N, the levels, and accuracy in % [experiments, levels]; nan where it is not known."""
    n = next((n for n in evidence.telling((candidates,)) if n == 16), evidence.counts((candidates,))[-1])
    pattern = re.compile(rf"bon/{re.escape(candidates)}/level-([^/]+)/acc@{n}")
    experiments = evidence.experiments.values()
    keys = {m[1]: m[0] for e in experiments for run in e.runs for m in map(pattern.fullmatch, run.metrics) if m}
    names = sorted(keys, key=lambda level: (len(level), level))
    grid = [
        [100 * (mean if (mean := e.mean(keys[level])) is not None else np.nan) for level in names] for e in experiments
    ]
    return n, names, np.array(grid)


def _draw_grid(panel: Any, grid: Any) -> None:
    low, high = np.nanmin(grid), np.nanmax(grid)
    panel.grid(visible=False)
    sides = np.arange(grid.shape[1] + 1) - 0.5, np.arange(grid.shape[0] + 1) - 0.5
    shades = {"vmin": low - 0.1 * (high - low) - 1e-6, "vmax": high + 1e-6, "cmap": "YlGnBu"}
    panel.pcolormesh(*sides, np.ma.masked_invalid(grid), edgecolors="none", antialiased=False, **shades)
    panel.invert_yaxis()
    panel.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            dark = value > low + 0.62 * (high - low)
            panel.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if dark else "#10243a"
            )


FIGURES: dict[str, Callable[[Evidence], Any | None]] = {
    "curves": curves,
    "gains": gains,
    "cost": cost,
    "levels": levels,
    "training": training,
}
"""Name of the file -> function that draws it; the function returns None where there is nothing to draw."""
