"""`lit_prm compare`: recorded runs side by side, as a table, a report and a record in MLflow."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prm.compare.document import Report, Section
    from lit_prm.compare.evidence import Evidence
    from lit_prm.compare.store import Store


def main(args: Sequence[str]) -> None:
    """`compare [NAME ...] [--scale S] ...`: every experiment of the scale when no name is given."""
    known = _parser().parse_args(list(args))
    from rich.console import Console

    from lit_prm.compare.evidence import Evidence
    from lit_prm.compare.store import Store
    from lit_prm.compare.terminal import show

    told: list[str] = []
    store = Store(known.uri)
    evidence = Evidence(store.experiments(known.names, known.scale, told.append))
    extra = _extra(known.against, evidence)
    console = Console()
    show(console, evidence)
    folder = known.out or Path("runs") / known.scale / "compare" / _folder_name(known.names)
    report = write(evidence, folder, known.scale, store, told, extra)
    for warning in report.warnings:
        console.print(f"note: {warning}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    if not known.no_record:
        _record(store, evidence, known.scale, folder, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lit_prm compare", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; all of the scale when empty")
    parser.add_argument("--scale", default="tiny", help="which scale's runs")
    parser.add_argument("--uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else sqlite mlflow.db here)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/<scale>/compare/<names>")
    parser.add_argument("--against", choices=["paper"], help="put the paper's numbers beside ours")
    parser.add_argument("--no-record", action="store_true", help="leave nothing in MLflow")
    return parser


def _folder_name(names: Sequence[str]) -> str:
    return re.sub(r"[^\w.+-]+", "_", "-".join(dict.fromkeys(names)))[:150].lstrip(".") or "all"


def _extra(against: str | None, evidence: Evidence) -> list[Section]:
    if against is None:
        return []
    from lit_prm.compare.against import beside_paper

    return [beside_paper(evidence)]


def write(
    evidence: Evidence, folder: Path, scale: str, store: Store, told: Sequence[str], extra: Sequence[Section] = ()
) -> Report:
    """`report.html`, `report.md` and `figures/` below ``folder``, each file whole."""
    from lit_prm.compare import config
    from lit_prm.compare.cells import versus
    from lit_prm.compare.document import report
    from lit_prm.compare.figures import FIGURES
    from lit_prm.compare.html import page
    from lit_prm.compare.markdown import markdown

    drawn = {name: figure for name, draw in FIGURES.items() if (figure := draw(evidence)) is not None}
    title = f"{versus(evidence.names)} at scale {scale}"
    source = f"Finished runs of the MLflow store {store.uri}; made by python -m lit_prm compare."
    warnings = [*told, *config.warnings(list(evidence.experiments.values()))]
    made = report(evidence, title, source, warnings, list(drawn), extra)
    _write_files(folder, page(made, _draw(folder, drawn)), markdown(made))
    return made


def _draw(folder: Path, drawn: Mapping[str, Any]) -> dict[str, str]:
    """Every figure as PNG and SVG; returned as inline SVG."""
    from lit_prm.compare.canvas import inline, save

    for name, figure in drawn.items():
        save(figure, folder / "figures" / name)
    return {name: inline(figure, name) for name, figure in drawn.items()}


def _write_files(folder: Path, html: str, markdown: str) -> None:
    from lit_prm.whole import written_whole

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.html", html), ("report.md", markdown)):
        with written_whole(folder / name) as partial:
            partial.write_text(text)


def _record(store: Store, evidence: Evidence, scale: str, folder: Path, console: Any) -> None:
    from lit_prm.compare.record import record

    run = record(store, evidence, scale, folder)
    console.print(f"recorded: run {run} of {store.uri}", markup=False, highlight=False, soft_wrap=True)
