"""The figure of `bon`: accuracy against N with bands, and accuracy against the score that choosing raises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.evaluation import plots
from lit_prm.evaluation.estimate import by_count
from lit_prm.reports.best_of_n.findings import Finding, Findings

_WITHOUT_SCORE = {
    "majority": ("majority vote", plots.MAJORITY), "any": ("any right", plots.ANY),
    "bon/random": ("one at random", plots.RANDOM),
}  # fmt: skip


def draw(findings: Findings, path: Path) -> None:
    """Write the figure as its suffix says: .png or .svg."""
    scored = [f for f in findings.each if f.overoptimisation]
    title = f"{findings.pool.name} ({len(findings.pool.groups)} problems)"
    figure, drawn = plots.panels([title, *(["does more choice help?"] if scored else [])], width=5.2, height=4.2)
    plots.draw_lines(drawn[0], _accuracies(findings))
    drawn[0].set_ylabel(plots.ACCURACY)
    for panel in drawn[1:]:
        _scores(panel, scored, findings.counts)
    plots.legend(figure, drawn)
    plots.save(figure, path)


def refuse_other_formats(path: Path) -> None:
    """Raise ValueError unless the file is .png or .svg."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise ValueError(f"--figure {path}: figures are PNG or SVG; name it .png or .svg")


def _accuracies(findings: Findings) -> list[plots.Series]:
    counts, first, lines = findings.counts, findings.each[0].judgement.curves, list[plots.Series]()
    for finding, style in zip(findings.each, _styles(findings.each), strict=True):
        name = f"{finding.judgement.name}: " if len(findings.each) > 1 else ""
        for method, label, line in (("bon", "best of N", "-"), ("vote", "weighted vote", "-.")):
            values = finding.judgement.curves.get(f"{method}/{finding.primary}")
            if values is not None:
                words = f"{name}{label}, {finding.primary}"
                lines.append(plots.Series(by_count(counts, values), words, {**style, "linestyle": line}))
    return lines + [
        plots.Series(by_count(counts, first[rule], interval=False), label, style, band=False)
        for rule, (label, style) in _WITHOUT_SCORE.items()
    ]


def _styles(each: Sequence[Finding]) -> list[plots.Style]:
    return list(plots.styles([finding.judgement.name for finding in each]).values())


def _scores(panel: Any, scored: Sequence[Finding], counts: Sequence[int]) -> None:
    """Mean score of the chosen above its value at N=1, in standard deviations of all scores, so that scales agree."""
    for finding, style in zip(scored, _styles(scored), strict=True):
        measure, scores = finding.overoptimisation, finding.judgement.scores[finding.primary or ""]
        assert measure is not None
        spread = float(scores[np.isfinite(scores)].std()) or 1.0
        raised = (np.array(measure.score) - measure.score[0]) / spread
        panel.plot(raised, 100 * np.array(measure.accuracy), markersize=3.5, **style)
        for n, x, y in zip(counts, raised, measure.accuracy, strict=True):
            plots.note(panel, str(n), x, 100 * y, style["color"])
    panel.set(xlabel="mean score of the chosen above that of all, standard deviations", ylabel=plots.ACCURACY)
