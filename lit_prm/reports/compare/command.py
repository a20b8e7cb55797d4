"""`lit_prm compare`: recorded runs side by side, as a table, a report and a record in MLflow."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prm.reports.compare.document import Report, Section
    from lit_prm.reports.compare.evidence import Evidence
    from lit_prm.reports.compare.store import Store


def main(args: Sequence[str]) -> None:
    """`compare [NAME ...] [--scale S] ...`: every experiment of the scale when no name is given."""
    known = _parser().parse_args(list(args))
    folder = known.out or Path("runs") / known.scale / "compare" / _folder_name(known.names)
    _refuse_file(folder)
    from rich.console import Console

    from lit_prm.reports.compare.evidence import Evidence
    from lit_prm.reports.compare.store import Store
    from lit_prm.reports.compare.terminal import show

    told: list[str] = []
    store = Store(known.uri)
    evidence = Evidence(store.experiments(known.names, known.scale, told.append))
    extra = _extra(known.against, evidence)
    console = Console()
    show(console, evidence)
    report, files = write(evidence, folder, known.scale, store, told, extra)
    for warning in report.warnings:
        console.print(f"note: {warning}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    if not known.no_record:
        _record(store, evidence, known.scale, folder, files, console)


def _refuse_file(folder: Path) -> None:
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"--out {folder}: {place} is a file; name a folder, new or not")


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
    from lit_prm.reports.compare.against import beside_paper

    return [beside_paper(evidence)]


def write(
    evidence: Evidence, folder: Path, scale: str, store: Store, told: Sequence[str], extra: Sequence[Section] = ()
) -> tuple[Report, list[Path]]:
    """`report.html`, `report.md` and `figures/` below ``folder``, each file whole; the report and what was written."""
    from lit_prm.reports.compare import config
    from lit_prm.reports.compare.canvas import inline, save
    from lit_prm.reports.compare.cells import versus
    from lit_prm.reports.compare.document import report
    from lit_prm.reports.compare.figures import FIGURES
    from lit_prm.reports.compare.html import page
    from lit_prm.reports.compare.markdown import markdown

    drawn = {name: figure for name, draw in FIGURES.items() if (figure := draw(evidence)) is not None}
    title = f"{versus(evidence.names)} at scale {scale}"
    source = f"Finished runs of the MLflow store {store.uri}; made by python -m lit_prm compare."
    warnings = [*told, *config.warnings(list(evidence.experiments.values()))]
    made = report(evidence, title, source, warnings, list(drawn), extra)
    files = [file for name, figure in drawn.items() for file in save(figure, folder / "figures" / name)]
    html = page(made, {name: inline(figure, name) for name, figure in drawn.items()})
    return made, files + _write_texts(folder, html, markdown(made))


def _write_texts(folder: Path, html: str, markdown: str) -> list[Path]:
    from lit_prm.storage.atomic import written_whole

    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / "report.html": html, folder / "report.md": markdown}
    for file, text in texts.items():
        with written_whole(file) as partial:
            partial.write_text(text)
    return list(texts)


def _record(store: Store, evidence: Evidence, scale: str, folder: Path, files: Sequence[Path], console: Any) -> None:
    from lit_prm.reports.compare.record import record

    run = record(store, evidence, scale, folder, files)
    console.print(f"recorded: run {run} of {store.uri}", markup=False, highlight=False, soft_wrap=True)
