"""The figures of a comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import numpy as np

from lit_prm.evaluation import plots
from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.tables import COST, METHODS
from lit_prm.reports.runs import Experiment

MOST_BANDS = 8  # more lie over each other


def curves(evidence: Evidence) -> Any | None:
    """Best-of-N of every experiment with its band; majority vote and any-of-N as lines."""
    if not evidence.sets:
        return None
    lines = [
        [
            *_lines(evidence, {name: _best(evidence, name, candidates) for name in evidence.names}),
            plots.Series(_common(evidence, "majority", candidates), METHODS["majority"], plots.MAJORITY, band=False),
            plots.Series(_common(evidence, "any", candidates), METHODS["any"], plots.ANY, band=False),
        ]
        for candidates in evidence.sets
    ]
    return plots.over_candidates(evidence.sets, lines)


def gains(evidence: Evidence) -> Any | None:
    """Best-of-N of every other experiment minus the first's, on the same problems: bands that exclude 0 are gains."""
    first, *others = evidence.names
    lines = [_lines(evidence, {name: _gains(evidence, name, first, s) for name in others}) for s in evidence.sets]
    if not any(line.points for of_set in lines for line in of_set):
        return None
    zero = {"color": plots.INK, "linewidth": 1}
    for candidates, of_set in zip(evidence.sets, lines, strict=True):
        points = dict.fromkeys(evidence.counts((candidates,)), Estimate(0, 0, 0))
        of_set.insert(0, plots.Series(points, f"0 = {plots.label(first)}", zero, band=False))
    return plots.over_candidates(evidence.sets, lines, "points more than the first")


def _lines(evidence: Evidence, points: Mapping[str, Mapping[int, Estimate]]) -> list[plots.Series]:
    """A line per experiment in its own colour; bands while there are few."""
    style, bands = plots.styles(evidence.names), len(evidence.names) <= MOST_BANDS
    return [plots.Series(of_name, plots.label(name), style[name], bands) for name, of_name in points.items()]


def _best(evidence: Evidence, name: str, candidates: str) -> dict[int, Estimate]:
    counts = evidence.counts((candidates,))
    return {n: best for n in counts if (best := evidence.estimate(name, "bon", (candidates,), (n,)))}


def _gains(evidence: Evidence, ours: str, theirs: str, candidates: str) -> dict[int, Estimate]:
    counts = evidence.counts((candidates,))
    return {n: gain.estimate for n in counts if (gain := evidence.difference(ours, theirs, "bon", (candidates,), (n,)))}


def _common(evidence: Evidence, method: str, candidates: str) -> dict[int, Estimate]:
    """The mean over experiments of a rule that needs no scorer, without interval."""
    known = {
        n: [e.mean for e in (evidence.estimate(x, method, (candidates,), (n,)) for x in evidence.names) if e]
        for n in evidence.counts((candidates,))
    }
    return {n: Estimate(fmean(means), np.nan, np.nan) for n, means in known.items() if means}


def cost(evidence: Evidence) -> Any | None:
    """Best of the most candidates, mean over sets, against FLOPs of collecting data and training."""
    counts = evidence.counts(evidence.sets)[-1:] if evidence.sets else ()
    groups = [
        plots.Series({flops: best}, plots.label(name), {"color": style["color"]})
        for name, style in plots.styles(evidence.names).items()
        if (flops := evidence.experiments[name].mean(COST))
        and (best := evidence.estimate(name, "bon", evidence.sets, counts))
    ]
    title = f"best of {counts[0]}, mean over {', '.join(evidence.sets)}" if groups else ""
    return plots.over_flops(title, groups, width=6.2, height=3.6) if groups else None


def training(evidence: Evidence) -> Any | None:
    """Training curves, the mean over seeds at every step that all seeds logged."""
    keys = dict.fromkeys(key for e in evidence.experiments.values() for run in e.runs for key in run.histories)
    if not keys:
        return None
    most = 2 if len(keys) in (2, 4) else 3
    figure, drawn = plots.panels([key.replace("@", " @") for key in keys], height=2.7, most=most)
    for key, panel in zip(keys, drawn, strict=True):
        for name, style in plots.styles(evidence.names).items():
            steps, means = _mean_curve(evidence.experiments[name], key)
            if steps:
                panel.plot(steps, means, linewidth=1.4, label=plots.text(plots.label(name)), **{**style, "marker": ""})
        panel.set_xlabel("updates")
    plots.legend(figure, drawn)
    return figure


def _mean_curve(experiment: Experiment, key: str) -> tuple[list[int], list[float]]:
    curves = [dict(run.histories[key]) for run in experiment.runs if key in run.histories]
    steps = sorted(set.intersection(*(set(one) for one in curves))) if curves else []
    return steps, [fmean(one[step] for one in curves) for step in steps]


def levels(evidence: Evidence) -> Any | None:
    """Best-of-N by level: experiments x levels, one panel per set, each cell with its number."""
    every = {s: _by_level(evidence, s) for s in evidence.sets}
    grids = {s: grid for s, grid in every.items() if grid[1]}
    if not grids:
        return None
    rows = len(evidence.names)
    titles = [f"{name}, best of {n}" for name, (n, _, _) in grids.items()]
    figure, drawn = plots.panels(titles, width=3.4, height=0.6 + 0.32 * rows, most=3)
    for i, (panel, (_, names, grid)) in enumerate(zip(drawn, grids.values(), strict=True)):
        _draw_grid(panel, grid)
        panel.set_xticks(range(len(names)), names)
        panel.set_yticks(range(rows), [plots.text(plots.label(name)) if not i % 3 else "" for name in evidence.names])
        panel.set_xlabel("level")
    return figure


def _by_level(evidence: Evidence, candidates: str) -> tuple[int, list[str], Any]:
    """N, the names of the levels, and accuracy in % [experiments, levels]; nan where a run has none."""
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
            colour = "white" if value > low + 0.62 * (high - low) else "#10243a"
            panel.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)


_DRAWN: tuple[Callable[[Evidence], Any | None], ...] = (curves, gains, cost, levels, training)
FIGURES = {draw.__name__: draw for draw in _DRAWN}
"""Name of the file -> function that draws it; the function returns None where there is nothing to draw."""
