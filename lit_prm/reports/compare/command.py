"""`lit_prm compare`: recorded runs side by side, as a table, a report and a record in MLflow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_prm.scoring.options import CommandParser

if TYPE_CHECKING:
    from rich.console import Console

    from lit_prm.evaluation.tables import Table
    from lit_prm.reports.compare.evidence import Evidence
    from lit_prm.reports.document import Report, Section

_MOST_PAIRS = 15  # that the terminal shows


def main(args: Sequence[str]) -> None:
    """`compare [NAME ...] [--scale S] ...`: every experiment of the scale when no name is given."""
    options = _parser().read(args)
    folder = options.out or options.runs / options.scale / "compare" / _folder_name(options.names)
    _refuse_file(folder)
    from rich.console import Console

    from lit_prm.reports.compare.evidence import Evidence
    from lit_prm.reports.runs import read_experiments

    notices: list[str] = []
    experiments = read_experiments(options.runs, options.scale, options.names, notices.append)
    store = None
    if any(run.mlflow_id for experiment in experiments for run in experiment.runs):
        from lit_prm.reports.compare.store import open_store, record

        store = open_store(options.uri, notices.append)
    if store is not None:
        experiments = [store.with_curves(experiment, notices.append) for experiment in experiments]
    evidence, console = Evidence(experiments), Console()
    extra = []
    if options.against is not None:
        from lit_prm.reports.compare.against import beside_paper

        extra = [beside_paper(evidence)]
    show_comparison(evidence, console)
    report, files = write(evidence, folder, options.scale, notices, extra)
    lines = [f"note: {warning}" for warning in report.warnings] + [f"report: {folder / 'report.html'}"]
    if store is not None and not options.no_record:
        run = record(store, evidence, options.scale, folder, files)
        lines += [] if run is None else [f"recorded: run {run} of {store.uri}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _refuse_file(folder: Path) -> None:
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"--out {folder}: {place} is a file; name a folder, new or not")


def _parser() -> CommandParser:
    parser = CommandParser("compare")
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="experiments; all of the scale when empty")
    add("--scale", default="tiny", help="scale of the runs (default: tiny)")
    add("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="holds the runs (default: runs)")
    add("--uri", help="MLflow store of training curves (default: MLFLOW_TRACKING_URI, else sqlite mlflow.db here)")
    add("--out", type=Path, metavar="FOLDER", help="default: runs/<scale>/compare/<names>")
    add("--against", choices=["paper"], help="put the paper's numbers beside ours")
    add("--no-record", action="store_true", help="leave nothing in MLflow")
    return parser


def _folder_name(names: Sequence[str]) -> str:
    return re.sub(r"[^\w.+-]+", "_", "-".join(dict.fromkeys(names)))[:150].lstrip(".") or "all"


def show_comparison(evidence: Evidence, console: Console) -> None:
    """Print every rule on every set at 4, 16 and the most candidates, the paired differences, and training."""
    from lit_prm.evaluation.tables import show
    from lit_prm.reports.compare import tables

    shown = [tables.accuracy(evidence, name, evidence.telling((name,))) for name in evidence.sets]
    over = f"mean over {', '.join(evidence.sets)}: paired differences in points, p after Holm"
    pairs = tables.pairs(evidence, evidence.sets, over) if evidence.sets else None
    show([*shown, _few(pairs, evidence.names[0]), tables.measured(evidence)], console)


def _few(pairs: Table | None, first: str) -> Table | None:
    """Of many pairs those with the first experiment; the report has all."""
    if pairs is None or len(pairs.rows) <= _MOST_PAIRS:
        return pairs
    return replace(pairs, rows=tuple(row for row in pairs.rows if row[0].endswith(f" - {first}")))


def write(
    evidence: Evidence, folder: Path, scale: str, notices: Sequence[str], extra: Sequence[Section] = ()
) -> tuple[Report, list[Path]]:
    """Write `report.html`, `report.md` and `figures/` below ``folder``; the report and the files written."""
    from lit_prm.evaluation.plots import inline, save
    from lit_prm.reports.compare.figures import FIGURES
    from lit_prm.reports.compare.sections import report, warnings
    from lit_prm.reports.compare.tables import versus
    from lit_prm.reports.document import markdown, page
    from lit_prm.storage.atomic import write_text

    drawn = {name: figure for name, draw in FIGURES.items() if (figure := draw(evidence)) is not None}
    title = f"{versus(evidence.names)} at scale {scale}"
    every = [*notices, *warnings(list(evidence.experiments.values()))]
    made = report(evidence, title, every, list(drawn), extra)
    files = [
        file
        for name, figure in drawn.items()
        for file in save(figure, *(folder / "figures" / f"{name}{kind}" for kind in (".png", ".svg")))
    ]
    html = page(made, {name: inline(figure, name) for name, figure in drawn.items()})
    return made, [*files, write_text(folder / "report.html", html), write_text(folder / "report.md", markdown(made))]
