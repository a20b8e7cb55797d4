"""`python -m lit_prm dial`: at which share of fluent errors does an implicit process reward pay?

The embedded world's setting ``fluent_errors`` is turned from 0 (the model only slips) to 1 (most errors are
misconceptions). At each share the same experiments are run, and judged beside what needs no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from lit_prm.commands.paper.results import Line, PaperResults
from lit_prm.commands.paper.runner import DOCS, RUNS, Place, make_runs
from lit_prm.commands.paper.workers import RunJob
from lit_prm.evaluation.estimate import Estimate, gain, level
from lit_prm.evaluation.tables import Table
from lit_prm.reports.document import Report, Section, markdown
from lit_prm.scoring.options import CommandParser, count
from lit_prm.storage.atomic import write_text

SCALE = "tiny"
SHARES = ("0", "0.25", "0.5", "0.75", "1")
COUNT = 16  # candidates
TEXTS: dict[str, Any] = yaml.safe_load((files("lit_prm.commands") / "dial.yaml").read_text(encoding="utf-8"))
NAMES: list[str] = TEXTS["experiments"]
CHOSEN, FOUND = ({row: Line(*curve.split(":")) for row, curve in TEXTS[key].items()} for key in ("chosen", "found"))
PANELS = {f"accuracy of the best of {COUNT}, %": CHOSEN, "first wrong step found, %": FOUND}


def main(args: Sequence[str], run: RunJob | None = None) -> None:
    """`dial [--seeds N] [--workers N] [--only runs|tables]`."""
    parser = CommandParser("dial")
    parser.add_argument("--seeds", type=count, default=3, help="number of seeds, at least 1; they are 0, 1, ...")
    parser.add_argument("--workers", type=count, default=2, help="runs at the same time")
    parser.add_argument("--only", choices=("runs", "tables"), help="one of the two jobs")
    options = parser.read(args)
    failed = 0
    for share in SHARES if options.only != "tables" else ():
        print(f"share of fluent errors {share}", flush=True)
        failed += make_runs(NAMES, place(share), options.seeds, options.workers, run)
    if options.only != "runs" and not failed:
        write(options.seeds)
    if failed:
        raise SystemExit(1)


def place(share: str) -> Place:
    """Where the runs at a share of fluent errors are; at 1, the default, those of `make exp` and `make paper`."""
    if float(share) == 1:
        return Place(SCALE)
    world = f"--data.root=.cache/tinymath-fluent-{share}/seed-{{seed}}"
    setting = f"--data.world.init_args.fluent_errors={share}"
    return Place(SCALE, f"{SCALE}-fluent-{share}", ("--run_dir={folder}", world, setting))


def write(seeds: int) -> None:
    """Write `docs/dial.md` and its figure from the finished runs."""
    results = {share: PaperResults(RUNS / (place(share).group or SCALE), seeds) for share in SHARES}
    for share, of_share in results.items():
        if missing := of_share.missing(NAMES):
            raise ValueError(f"At share {share} runs are missing: {', '.join(missing)}. Make them first: make dial")
    tables = tuple(Table(("", *SHARES), tuple(_rows(results, lines)), title) for title, lines in PANELS.items())
    compared = Table(("", *SHARES), tuple(_differences(results)), f"differences at N = {COUNT}, points")
    words = TEXTS["about"].format(seeds=seeds)
    section = Section("When an implicit process reward pays", words, (*tables, compared), ("dial",))
    source = "Written by python -m lit_prm dial; not edited by hand."
    _draw(results, DOCS / "figures" / "dial.png")
    write_text(DOCS / "dial.md", markdown(Report("The share of fluent errors", source, (), (section,))))
    print(f"written: {DOCS / 'dial.md'} and {DOCS / 'figures' / 'dial.png'}")


def _at(results: PaperResults, line: Line) -> Estimate | None:
    return results.estimate(line, ("test",), (COUNT,))


def _rows(results: Mapping[str, PaperResults], lines: Mapping[str, Line]) -> list[tuple[str, ...]]:
    return [(label, *(level(_at(of_share, line)) for of_share in results.values())) for label, line in lines.items()]


def _differences(results: Mapping[str, PaperResults]) -> list[tuple[str, ...]]:
    return [
        (
            f"{ours} minus {theirs}",
            *(gain(r.difference(CHOSEN[ours], CHOSEN[theirs], ("test",), (COUNT,))) for r in results.values()),
        )
        for ours, theirs in TEXTS["compared"]
    ]


def _draw(results: Mapping[str, PaperResults], file: Path) -> None:
    """Two panels over the share: accuracy and first wrong steps, intervals as bands."""
    from lit_prm.evaluation import plots

    styles: dict[str, Any] = plots.styles(list(dict.fromkeys(label for lines in PANELS.values() for label in lines)))
    figure, panels = plots.panels(list(PANELS), width=4.4)
    for panel, lines in zip(panels, PANELS.values(), strict=True):
        for label, line in lines.items():
            points = {float(share): value for share, of_share in results.items() if (value := _at(of_share, line))}
            plots.draw_over(panel, plots.Series(points, label, styles[label]))
        panel.set_xlabel("share of fluent errors")
    plots.legend(figure, panels)
    plots.save(figure, file)
