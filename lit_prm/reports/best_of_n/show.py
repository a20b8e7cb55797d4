"""What `bon` prints: tables of at most 80 columns, each saying what stands in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from lit_prm.evaluation.tables import best_of_n_table, few, plain_table
from lit_prm.reports.best_of_n.findings import Finding, Findings
from lit_prm.reports.best_of_n.measures import Estimate, LengthBias, Overoptimisation, WrongProcess
from lit_prm.reports.best_of_n.official import Row
from lit_prm.reports.best_of_n.pairs import PairedDifference


def show(findings: Findings, console: Console | None = None) -> None:
    """Every table that has something in it, scorer by scorer, then the pairs."""
    console = console or Console()
    console.print(_heading(findings), highlight=False)
    for finding in findings.each:
        best_of_n_table(finding.judgement.metrics, [finding.judgement.name], console)
        for line in _notes(finding, findings):
            console.print(line, highlight=False)
        for table in _tables(finding, findings.counts):
            console.print(table)
    if findings.pairs:
        console.print(_pairs_at_the_end(findings.pairs, findings.counts))
        console.print(
            "Only A, only B: problems that one of the two solves, whose split McNemar's exact\n"
            "test judges (ties are left out). For N < K outcomes are expectations, no 0 or 1,\n"
            "and only the paired bootstrap over problems speaks.",
            highlight=False,
        )
    if len(findings.each) > 1 and not findings.settings.pairs:
        for pair in findings.pairs:
            console.print(_pair_by_count(pair, findings.counts))


def _heading(findings: Findings) -> str:
    sizes = sorted({len(g.rollouts) for g in findings.pool.groups})
    candidates = "-".join(str(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
    return (
        f"{len(findings.pool.groups)} problems, {candidates} candidates each\n"
        "Exact expectations over all subsets of N; 95 % intervals by bootstrap over problems."
    )


def _notes(finding: Finding, findings: Findings) -> list[str]:
    """What a reader of the accuracy table has to know: what length is, what was sampled."""
    weighed = f" Votes are weighed by {findings.settings.weight!r}." if finding.primary else ""
    notes = [f"Length is counted in {finding.length_unit}.{weighed}"]
    errors = {vote: found for vote, found in finding.judgement.errors.items() if found.any()}
    if errors:
        worst = 100 * max(found.max() for found in errors.values())
        at = [n for i, n in enumerate(findings.counts) if any(found[i] > 0 for found in errors.values())]
        notes.append(
            f"Weighted votes of {', '.join(map(str, at))} are estimated from sampled subsets;\n"
            f"the standard error that this adds is at most {worst:.2f} points."
        )
    return notes


def _tables(finding: Finding, counts: Sequence[int]) -> list[Table]:
    name, found = finding.judgement.name, list[Table]()
    if finding.overoptimisation:
        found.append(_overoptimisation(f"{name}: best of N by {finding.primary}", finding.overoptimisation, counts))
    if finding.length:
        found.append(_length(f"{name}: length of the chosen, {finding.primary}", finding.length, counts))
    if finding.process:
        title = f"{name}: right answers with a wrong step, %"
        found.append(_process(title, finding.process, counts, chosen=finding.primary is not None))
    return found


def _overoptimisation(title: str, measure: Overoptimisation, counts: Sequence[int]) -> Table:
    table, at = _by_count(f"{title}: does more choice help?", counts)
    table.add_row("accuracy, %", *(f"{100 * measure.accuracy[i]:.1f}" for i in at))
    table.add_row("best possible, %", *(f"{100 * measure.possible[i]:.1f}" for i in at))
    table.add_row("mean score of the chosen", *(_number(measure.score[i], ".3g") for i in at))
    left_out = f"; scores of {measure.left_out} problems left out: a response has none" if measure.left_out else ""
    return _captioned(table, f"peak at N={measure.peak}; the end is {_points(measure.fall)} points below{left_out}")


def _length(title: str, measure: LengthBias, counts: Sequence[int]) -> Table:
    table, at = _by_count(title, counts)
    table.add_row(f"{measure.unit} above the mean", *(f"{measure.excess[i].value:+.1f}" for i in at))
    for label, end in (("... low", 1), ("... high", 2)):
        table.add_row(label, *(_number(measure.excess[i][end], "+.1f") for i in at))
    return _captioned(
        table,
        f"mean {measure.mean:.1f} {measure.unit}; within problems length goes with the score "
        f"{_number(measure.score, '+.2f')}, with being right {_number(measure.right, '+.2f')}",
    )


def _process(title: str, measure: WrongProcess, counts: Sequence[int], chosen: bool) -> Table:
    table, at = _by_count(title, counts)
    rows = [("of the chosen", measure.chosen), ("of one at random", measure.random)]
    for label, found in rows if chosen else rows[1:]:
        table.add_row(label, *(_number(100 * found[i].value, ".1f") for i in at))
        table.add_row("... interval", *(_interval(found[i]) for i in at))
    return _captioned(table, f"of {measure.checked} responses with a right answer and checked steps")


def _by_count(title: str, counts: Sequence[int]) -> tuple[Table, list[int]]:
    """An empty table with a column for some N, and where these stand among all."""
    shown = few(list(counts))
    table = plain_table(title, "", *(f"N={n}" for n in shown))
    return table, [list(counts).index(n) for n in shown]


def _captioned(table: Table, caption: str) -> Table:
    """The table with a line below it, as wide as that needs."""
    table.caption, table.caption_justify = caption, "left"
    table.min_width = min(max(table.min_width or 0, len(caption)), 80)
    return table


def _pairs_at_the_end(pairs: Sequence[PairedDifference], counts: Sequence[int]) -> Table:
    table = plain_table(
        f"Pairs at N=K={counts[-1]}: A minus B", "A - B", "points, 95 %", "only A", "only B", "ties", "p"
    )
    for pair in pairs:
        split = (str(pair.first_only), str(pair.second_only), str(pair.undecided))
        table.add_row(f"{pair.first} - {pair.second}", _points(pair.differences[-1]), *split, f"{pair.p:.2g}")
    return table


def _pair_by_count(pair: PairedDifference, counts: Sequence[int]) -> Table:
    table, at = _by_count(f"{pair.first} minus {pair.second}, points", counts)
    for label, end in (("mean", 0), ("low", 1), ("high", 2)):
        table.add_row(label, *(_number(100 * pair.differences[i][end], "+.1f") for i in at))
    return table


def _points(estimate: Estimate) -> str:
    value, low, high = (_number(100 * x, "+.1f") for x in estimate)
    return f"{value} [{low}, {high}]"


def _interval(estimate: Estimate) -> str:
    """`41-44`; one dash where its ends are not defined."""
    if math.isnan(estimate.low):
        return "-"
    return f"{100 * estimate.low:.0f}-{100 * estimate.high:.0f}"


def _number(value: float, form: str) -> str:
    """The number, a dash where it is not defined."""
    return "-" if math.isnan(value) else format(value, form)


# ---- official protocol --------------------------------------------------------------------------


def show_official(told: Mapping[str, Mapping[str, Row]], console: Console | None = None) -> None:
    """One table, first what needs no scorer."""
    console = console or Console()
    counts = list(next(iter(told[""].values())))
    title = "official protocol (compat): accuracy in %, not comparable with expectations over subsets"
    table = plain_table(title, "first N in file order", *(f"N={n}" for n in counts))
    for name, rules in told.items():
        if name:
            table.add_section()
            table.add_row(f"{name}")
        for rule, row in rules.items():
            table.add_row(f"{'  ' if name else ''}{rule}", *(f"{row[n]:.1f}" for n in counts))
    console.print(table)
