"""The comparison on a terminal: what to read first, on 80 columns."""

from __future__ import annotations

from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lit_prm.reports.compare import tables
from lit_prm.reports.compare.cells import Table, tone
from lit_prm.reports.compare.evidence import Evidence

_MOST_PAIRS = 15
_STYLES = {"best": "bold", "gain": "bold green", "loss": "bold red", "quiet": "dim"}


def show(console: Console, evidence: Evidence) -> None:
    """Every rule on every set at 4, 16 and the most candidates, and the paired differences of the mean over sets."""
    for name in evidence.sets:
        _print(console, tables.accuracy(evidence, name, evidence.telling((name,))))
    if evidence.sets:
        over = f"mean over {', '.join(evidence.sets)}: paired differences in points, p after Holm"
        _print(console, _few(tables.pairs(evidence, evidence.sets, over), evidence.names[0]))
    _print(console, tables.measured(evidence))


def _few(pairs: Table | None, first: str) -> Table | None:
    """Of many pairs those with the first experiment; the report has all."""
    if pairs is None or len(pairs.rows) <= _MOST_PAIRS:
        return pairs
    return replace(pairs, rows=tuple(row for row in pairs.rows if row[0].endswith(f" - {first}")))


def _print(console: Console, table: Table | None) -> None:
    if table is None or not table.rows:
        return
    made = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(table.heading):
        made.add_column(Text(name), justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(cell.replace(", p ", "\np "), style=_STYLES.get(tone(cell), "")) for cell in row))
    console.print(made)
