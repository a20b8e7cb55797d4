"""The figure of `bon`: accuracy against N with bands, and beside it the score that choosing pushes up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.evaluation.discrimination import Floats
from lit_prm.evaluation.intervals import bootstrap_interval
from lit_prm.reports.best_of_n.findings import Finding, Findings
from lit_prm.storage.atomic import written_whole

_COLOURS = ("#1b4f9c", "#c8501e", "#2a9d8f", "#7b3fa0", "#c9a227", "#c2649a")


def draw(findings: Findings, path: Path) -> None:
    """Write the figure, whole, as its suffix says: .png or .svg."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heard = [f for f in findings.each if f.overoptimisation]
    figure = Figure(figsize=(11 if heard else 7, 4.6), layout="constrained")
    left, *right = figure.subplots(1, 2 if heard else 1, squeeze=False)[0]
    _accuracies(left, findings)
    for panel in right:
        _scores(panel, heard, findings.counts)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:].lower()
    told = {"Date": None} if kind == "svg" else None  # equal findings give equal bytes
    with written_whole(path) as partial, rc_context({"svg.hashsalt": "bon"}):
        FigureCanvasAgg(figure).print_figure(partial, format=kind, dpi=110, metadata=told)


def refuse_other_formats(path: Path) -> None:
    """Raise unless ``draw`` can write the file."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise ValueError(f"--figure {path}: figures are PNG or SVG; name it .png or .svg")


def _accuracies(panel: Any, findings: Findings) -> None:
    counts, first = findings.counts, findings.each[0].judgement.curves
    many = len(findings.each) > 1
    for finding, colour in zip(findings.each, _cycled(findings.each), strict=True):
        name = f"{finding.judgement.name}: " if many else ""
        for method, style in (("bon", "-"), ("vote", "-.")):
            curve = finding.judgement.curves.get(f"{method}/{finding.primary}")
            if curve is not None:
                label = "best of N" if method == "bon" else "weighted vote"
                _band(panel, counts, curve, f"{name}{label}, {finding.primary}", colour, style)
    lines = (("majority", "majority vote", "--"), ("any", "any right", ":"), ("bon/random", "one at random", ":"))
    for rule, label, style in lines:
        panel.plot(
            counts, 100 * first[rule].mean(0), style, color="0.35" if rule != "bon/random" else "0.65", label=label
        )
    _dress(panel, counts, f"{findings.pool.name} ({len(findings.pool.groups)} problems)", "accuracy, %")
    panel.legend(fontsize=8, frameon=False, loc="upper left")


def _band(panel: Any, counts: Sequence[int], curve: Floats, label: str, colour: str, style: str) -> None:
    panel.plot(counts, 100 * curve.mean(0), style, color=colour, marker="o", markersize=3.5, label=label)
    low, high = np.array([bootstrap_interval(column) for column in curve.T]).T
    panel.fill_between(counts, 100 * low, 100 * high, color=colour, alpha=0.1, linewidth=0)


def _scores(panel: Any, heard: Sequence[Finding], counts: Sequence[int]) -> None:
    """How far a score is from its value at N=1, in its own standard deviations: scorers of any scale side by side."""
    for finding, colour in zip(heard, _cycled(heard), strict=True):
        measure, scores = finding.overoptimisation, finding.judgement.scores[finding.primary or ""]
        assert measure is not None
        spread = float(scores[np.isfinite(scores)].std()) or 1.0
        risen = (np.array(measure.score) - measure.score[0]) / spread
        panel.plot(
            risen, 100 * np.array(measure.accuracy), "-o", color=colour, markersize=3.5, label=finding.judgement.name
        )
        for n, x, y in zip(counts, risen, measure.accuracy, strict=True):
            panel.annotate(str(n), (x, 100 * y), (3, 4), textcoords="offset points", fontsize=8, color=colour)
    _grid(panel, "does more choice help?", "accuracy of the chosen, %")
    panel.set_xlabel("mean score of the chosen above that of all, standard deviations")
    panel.legend(fontsize=8, frameon=False)


def _cycled(each: Sequence[Finding]) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(len(each))]


def _dress(panel: Any, counts: Sequence[int], title: str, label: str) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(n) for n in counts])
    panel.set_xlabel("candidates N")
    _grid(panel, title, label)


def _grid(panel: Any, title: str, label: str) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_ylabel(label)
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
