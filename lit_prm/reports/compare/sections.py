"""The sections of a comparison's report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lit_prm.evaluation.tables import Table
from lit_prm.models.flops import assumptions
from lit_prm.reports.compare import tables
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.settings import differences
from lit_prm.reports.document import Report, Section, some

_INTERVALS = (
    "Intervals are 95 % bootstrap intervals (2,000 draws). With one seed problems are resampled. With several "
    "the bootstrap is hierarchical: seeds are drawn with replacement and, within what a drawn seed was judged on, "
    "problems; seeds judged on the same problems share each draw of them. A few seeds say little about other seeds."
)
_PAIRS = (
    "Differences on the same problems of the same seeds, by the same draws. p is two-sided, from the standard "
    "deviation of the draws, and corrected by Holm's method for all pairs of its column. Bold: p below 0.05."
)
_CURVES = (
    "The line is the mean, the band its 95 % interval (left out for more than 8 experiments). Any-of-N may lie above "
    "the upper edge."
)
_GAINS = (
    "What a pair has in common (hard problems, a lucky seed) cancels in a difference, but not in the bands above. "
    "Experiments whose bands overlap there may still differ here."
)


def report(
    evidence: Evidence,
    title: str,
    source: str,
    warnings: Sequence[str],
    figures: Sequence[str],
    extra: Sequence[Section],
) -> Report:
    """Every section that has something to show; ``figures`` names those that were drawn."""
    kept = [
        replace(s, tables=some(*s.tables), figures=tuple(f for f in s.figures if f in figures))
        for s in _sections(evidence, extra)
    ]
    return Report(title, source, tuple(warnings), tuple(s for s in kept if s.tables or s.figures or not s.words))


def _sections(evidence: Evidence, extra: Sequence[Section]) -> Iterator[Section]:
    sets = evidence.sets
    yield Section("Compared", "", (tables.compared(evidence),))
    yield Section("Best-of-N", f"Accuracy of the chosen answer in %. {_INTERVALS}", tables.headline(evidence))
    yield Section("By number of candidates", _CURVES, (), ("curves",))
    yield Section("Paired differences", f"{_PAIRS} {_GAINS}", tuple(_pairs(evidence)), ("gains",))
    yield from extra
    yield _settings(evidence)
    yield Section("Cost", assumptions(), some(tables.cost(evidence)), ("cost",))
    yield Section("Levels", "Means over seeds.", (), ("levels",))
    yield Section("Steps", "How well step rewards find wrong steps, means over seeds.",
                  tuple(t for s in sets for t in some(tables.steps(evidence, s))))  # fmt: skip
    yield Section(
        "Training",
        "Means over seeds, at the updates that all seeds logged. A metric that was logged once has no curve.",
        (),
        ("training",),
    )
    yield Section("All rules", "Best-of-N, weighted and majority votes, and whether any candidate is right.",
                  tuple(tables.accuracy(evidence, s, evidence.counts((s,))) for s in sets))  # fmt: skip


def _pairs(evidence: Evidence) -> Iterator[Table]:
    """The mean over sets, then every set folded; with one set only that one."""
    several = len(evidence.sets) > 1
    if several:
        yield from some(tables.pairs(evidence, evidence.sets, f"mean over {', '.join(evidence.sets)}"))
    for name in evidence.sets:
        yield from some(tables.pairs(evidence, (name,), name, folded=several))


def _settings(evidence: Evidence) -> Section:
    table = differences(list(evidence.experiments.values()))
    if len(evidence.names) == 1:
        return Section("Settings", "Nothing to compare with.")
    words = "Only settings that differ. The name, the folder and the seed of a run are left out."
    return Section("Settings", words, (table,)) if table else Section("Settings: none differs")
