"""The paper's numbers beside ours, where an experiment stands for one of its rows."""

from __future__ import annotations

from collections.abc import Sequence

from lit_prm.evaluation.estimate import NOTHING, gain, level, number, power
from lit_prm.evaluation.tables import Cell, Table
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.sections import WORDS
from lit_prm.reports.compare.tables import COST
from lit_prm.reports.document import Section, some
from lit_prm.reports.paper_numbers import COUNTS, GENERATORS, PAPER_ROW, Paper, PaperRow, paper


def beside_paper(evidence: Evidence) -> Section:
    """Our rows with the paper's below them; ValueError when the paper has none of these experiments or sets."""
    numbers = paper()
    sets = tuple(name for name in GENERATORS if name in evidence.sets)
    counts = tuple(n for n in COUNTS if n in evidence.counts(sets))
    known = [name for name in evidence.names if row_name(name) in numbers.rows]
    if not known or not counts:
        available = (
            ("experiments", evidence.names, known),
            ("candidate sets", evidence.sets, sets),
            ("N", COUNTS, counts),
        )
        lists = "; ".join(f"{kind} {_listed(ours)}, of which it has {_listed(both)}" for kind, ours, both in available)
        raise ValueError(
            f"nothing to put beside the paper: {lists}; leave --against paper out, or compare others "
            "(python -m lit_prm list)"
        )
    tables = (_accuracy(evidence, numbers, sets, counts), _flops(evidence, numbers))
    generators = ", ".join(f"{name} for {GENERATORS[name]}" for name in sets)
    return Section("Against the paper", WORDS["against"].format(generators=generators), some(*tables))


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "none"


def row_name(experiment: str) -> str:
    """The name of the paper's row that an experiment repeats."""
    return PAPER_ROW.get(experiment, experiment)


def _accuracy(evidence: Evidence, numbers: Paper, sets: tuple[str, ...], counts: tuple[int, ...]) -> Table:
    rows: list[tuple[str, ...]] = []
    first = evidence.names[0]
    for name in evidence.names:
        estimates = (evidence.estimate(name, "bon", (s,), (n,)) for s in sets for n in counts)
        cells = [number(None if one is None else one.mean) for one in estimates]
        change = evidence.difference(name, first, "bon", sets, counts) if name != first else None
        ours = level(evidence.estimate(name, "bon", sets, counts))
        rows.append((name, ours, gain(change.estimate) if change else NOTHING, *cells))
        if row := numbers.rows.get(row_name(name)):
            rows.append(_theirs(row, numbers.rows.get(row_name(first)), sets, counts))
    heading = ("", "mean", f"to {first}", *(f"{s} @{n}" for s in sets for n in counts))
    return Table(heading, tuple(rows))


def _theirs(row: PaperRow, first: PaperRow | None, sets: tuple[str, ...], counts: tuple[int, ...]) -> tuple[str, ...]:
    cells = [number(row.accuracy[s][n]) for s in sets for n in counts]
    mean = row.mean(sets, counts)
    change = NOTHING if first is None or first is row else f"{mean - first.mean(sets, counts):+.1f}"
    return tuple(Cell(text, "theirs") for text in (f"paper: {row.label}", number(mean), change, *cells))


def _flops(evidence: Evidence, numbers: Paper) -> Table | None:
    known = {name: evidence.experiments[name].mean(COST) for name in evidence.names if row_name(name) in numbers.flops}
    both = [(name, ours, numbers.flops[row_name(name)]) for name, ours in known.items() if ours]
    if not both:
        return None
    first, our_first, their_first = both[0]
    rows = [
        (name, power(ours), Cell(power(theirs), "theirs"), number(ours / our_first, ".2f"),
         Cell(number(theirs / their_first, ".2f"), "theirs"))
        for name, ours, theirs in both
    ]  # fmt: skip
    return Table(("FLOPs", "ours", "paper's", f"ours / {first}'s", "paper's"), tuple(rows), title=WORDS["against_cost"])
