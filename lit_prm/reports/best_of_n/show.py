"""What `bon` prints: tables of at most 80 columns, each with the notes it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from lit_prm.evaluation.estimate import Estimate, gain, number, percent
from lit_prm.evaluation.tables import Table, show
from lit_prm.reports.best_of_n.findings import Finding, Findings
from lit_prm.reports.best_of_n.measures import LengthBias, Overoptimisation, PairedDifference, WrongProcess
from lit_prm.reports.best_of_n.official import Row
from lit_prm.reports.run_tables import few, run_tables

_MCNEMAR = (
    "Only A, only B: problems that one of the two solves, whose split McNemar's exact\n"
    "test judges (ties are left out). For N < K outcomes are expectations, no 0 or 1,\n"
    "and only the paired bootstrap over problems speaks."
)


def show_findings(findings: Findings, console: Console | None = None) -> None:
    """Print every table that has rows, scorer by scorer, then the pairs."""
    console = console or Console()
    console.print(_heading(findings), highlight=False)
    for finding in findings.each:
        show(_of_scorer(finding, findings), console)
    pairs, counts = findings.pairs, findings.counts
    show([_pairs_at_the_end(pairs, counts)], console)
    if len(findings.each) > 1 and not findings.settings.pairs:
        for pair in pairs:
            rows = _with_ends("mean", [difference.scaled() for difference in pair.differences], "+.1f")
            show([_by_count(f"{pair.first} minus {pair.second}, points", counts, rows)], console)


def _heading(findings: Findings) -> str:
    sizes = sorted({len(g.rollouts) for g in findings.pool.groups})
    candidates = "-".join(str(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
    undecided = f"\n{findings.undecided} comparisons of answers ended without a verdict and count as unequal."
    return (
        f"{len(findings.pool.groups)} problems, {candidates} candidates each\n"
        "Exact expectations over all subsets of N; 95 % intervals by bootstrap over problems."
        f"{undecided if findings.undecided else ''}"
    )


def _of_scorer(finding: Finding, findings: Findings) -> list[Table]:
    name, counts, primary = finding.judgement.name, findings.counts, finding.primary
    tables = [t for t in run_tables(name, finding.judgement.metrics) if t.rows]
    tables[-1] = replace(tables[-1], notes=tuple(_notes(finding, findings)))
    if finding.overoptimisation:
        tables.append(_overoptimisation(f"{name}: best of N by {primary}", finding.overoptimisation, counts))
    if finding.length:
        tables.append(_length(f"{name}: length of the chosen, {primary}", finding.length, counts))
    if finding.process:
        title = f"{name}: right answers with a wrong step, %"
        tables.append(_process(title, finding.process, counts, chosen=primary is not None))
    return tables


def _notes(finding: Finding, findings: Findings) -> list[str]:
    """The unit of length, the weights of votes, and the error of votes that were sampled."""
    weighed = f" Votes are weighed by {findings.settings.weight!r}." if finding.primary else ""
    notes = [f"Length is counted in {finding.length_unit}.{weighed}"]
    errors = [error for error in finding.judgement.errors.values() if error.any()]
    if errors:
        sampled = [n for i, n in enumerate(findings.counts) if any(error[i] > 0 for error in errors)]
        notes.append(
            f"Weighted votes of {', '.join(map(str, sampled))} are estimated from sampled subsets;\n"
            f"the standard error that this adds is at most {100 * max(e.max() for e in errors):.2f} points."
        )
    return notes


def _overoptimisation(title: str, measure: Overoptimisation, counts: Sequence[int]) -> Table:
    left_out = f"; scores of {measure.left_out} problems left out: a response has none" if measure.left_out else ""
    rows = {
        "accuracy, %": [percent(x) for x in measure.accuracy],
        "best possible, %": [percent(x) for x in measure.possible],
        "mean score of the chosen": [number(x, ".3g") for x in measure.score],
    }
    note = f"peak at N={measure.peak}; the end is {gain(measure.fall.scaled())} points below{left_out}"
    return _by_count(f"{title}: does more choice help?", counts, rows, note)


def _length(title: str, measure: LengthBias, counts: Sequence[int]) -> Table:
    rows = _with_ends(f"{measure.unit} above the mean", measure.excess, "+.1f")
    note = f"mean {measure.mean:.1f} {measure.unit}; within problems length goes with the score "
    note += f"{number(measure.score, '+.2f')}, with being right {number(measure.right, '+.2f')}"
    return _by_count(title, counts, rows, note)


def _process(title: str, measure: WrongProcess, counts: Sequence[int], chosen: bool) -> Table:
    rows = _with_ends("of the chosen", [e.scaled() for e in measure.chosen], ".1f") if chosen else {}
    rows |= {"of one at random": [percent(e.mean) for e in measure.random]}
    return _by_count(title, counts, rows, f"of {measure.checked} responses with a right answer and checked steps")


def _with_ends(label: str, estimates: Sequence[Estimate], form: str) -> dict[str, list[str]]:
    """Three rows: the means and the two ends of their intervals, which have no room in one cell."""
    labels = {label: "mean", "... low": "low", "... high": "high"}
    return {row: [number(getattr(e, end), form) for e in estimates] for row, end in labels.items()}


def _by_count(title: str, counts: Sequence[int], rows: Mapping[str, Sequence[str]], *notes: str) -> Table:
    """A table with a column for as many N as the width has room for."""
    at = [list(counts).index(n) for n in few(counts)]
    cells = tuple((label, *(row[i] for i in at)) for label, row in rows.items())
    return Table(("", *(f"N={counts[i]}" for i in at)), cells, title, notes)


def _pairs_at_the_end(pairs: Sequence[PairedDifference], counts: Sequence[int]) -> Table:
    rows = [
        (
            f"{p.first} - {p.second}", gain(p.differences[-1].scaled()),
            str(p.first_only), str(p.second_only), str(p.undecided), f"{p.p:.2g}",
        )
        for p in pairs
    ]  # fmt: skip
    columns = ("A - B", "points, 95 %", "only A", "only B", "ties", "p")
    return Table(columns, tuple(rows), f"Pairs at N=K={counts[-1]}: A minus B", (_MCNEMAR,))


def show_official(accuracy: Mapping[str, Mapping[str, Row]], console: Console | None = None) -> None:
    """Print one table: first the rules that need no scorer, then those of every scorer."""
    counts = list(next(iter(accuracy[""].values())))
    rows: list[tuple[str, ...]] = []
    for name, rules in accuracy.items():
        rows += [(), (name, *[""] * len(counts))] if name else []
        indent = "  " if name else ""
        rows += [(f"{indent}{rule}", *(f"{row[n]:.1f}" for n in counts)) for rule, row in rules.items()]
    title = "official protocol (compat): accuracy in %, not comparable with expectations over subsets"
    show([Table(("first N in file order", *(f"N={n}" for n in counts)), tuple(rows), title)], console)
