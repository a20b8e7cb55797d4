"""Recorded runs side by side: a table to read and a figure of their best-of-N curves."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from lit_prm.tables import interval

_CURVE = re.compile(r"(bon|vote|majority|any)/([^/]+)/acc@(\d+)")
_LABELS = {"bon": "best-of-N", "vote": "vote", "majority": "majority", "any": "any right"}


@dataclass(frozen=True)
class Recorded:
    """One experiment at one scale: the metrics of each of its seeds."""

    name: str
    seeds: tuple[Mapping[str, float], ...]
    unfinished: int = 0

    def values(self, key: str) -> list[float]:
        """The metric in every seed that has it."""
        return [metrics[key] for metrics in self.seeds if key in metrics]

    def shown(self, key: str, scale: float = 100.0, digits: int = 1) -> str:
        """`41.2 [38, 44]` with one seed's interval; `41.2 ± 1.1` with half the range over several seeds."""
        found = self.values(key)
        if not found:
            return ""
        if len(found) == 1 and scale == 100.0:
            return interval(next(m for m in self.seeds if key in m), key)
        half = scale * (max(found) - min(found)) / 2
        mean = f"{scale * fmean(found):.{digits}f}"
        return f"{mean} ± {half:.{digits}f}" if len(found) > 1 else mean

    def band(self, key: str) -> tuple[float, float, float]:
        """Mean, low and high in percent: the interval of one seed, the range of several."""
        found = self.values(key)
        low, high = (self.values(f"{key}/{end}") for end in ("low", "high"))
        if len(found) > 1 or not low:
            low = high = found
        return 100 * fmean(found), 100 * min(low), 100 * max(high)


def main(args: Sequence[str]) -> None:
    """`compare [NAME ...] [--scale S] [--runs FOLDER]`: every run of the scale when no name is given."""
    parser = argparse.ArgumentParser(prog="python -m lit_prm compare", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; all of the scale when empty")
    parser.add_argument("--scale", default="tiny", help="which scale's runs")
    parser.add_argument("--runs", default="runs", type=Path, help="folder that holds all runs")
    known = parser.parse_args(list(args))
    runs = read_runs(known.runs, known.scale, known.names)
    console = Console()
    console.print(table(runs, known.scale))
    figure = known.runs / known.scale / f"compare-{'-'.join(known.names)[:150] or 'all'}.png"
    if draw(runs, figure):
        console.print(f"figure: {figure}", soft_wrap=True)


def read_runs(folder: Path, scale: str, names: Iterable[str] = ()) -> list[Recorded]:
    """The recorded runs of ``names`` in that order; unknown ones are refused with what there is."""
    known = recorded_names(folder)
    wanted = list(dict.fromkeys(names)) or known.get(scale, [])
    missing = [name for name in wanted if name not in known.get(scale, [])]
    if missing or not wanted:
        listed = "\n".join(f"  {s}: {' '.join(n)}" for s, n in known.items()) or "  nothing yet"
        what = f"no record of {', '.join(missing)}" if missing else "nothing recorded"
        raise SystemExit(
            f"{what} at scale {scale!r}: {folder / scale}/NAME/seed-*/summary.json; {folder}/ has\n{listed}\n"
            f"make one: make exp NAME={missing[0] if missing else 'ce-1resp'} SCALE={scale}"
        )
    return [_read(folder / scale / name) for name in wanted]


def recorded_names(folder: Path) -> dict[str, list[str]]:
    """Scale -> names of the experiments that have at least one summary."""
    found: dict[str, list[str]] = {}
    for run in sorted({file.parent.parent for file in folder.glob("*/*/seed-*/summary.json")}):
        found.setdefault(run.parent.name, []).append(run.name)
    return found


def _read(folder: Path) -> Recorded:
    summaries = [_summary(file) for file in sorted(folder.glob("seed-*/summary.json"))]
    unfinished = sum(summary["status"] != "FINISHED" for summary in summaries)
    return Recorded(folder.name, tuple(summary["metrics"] for summary in summaries), unfinished)


def _summary(file: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        message = f"{file}:{error.lineno}: not JSON ({error.msg}); remove the file and run the experiment again"
        raise SystemExit(message) from error
    return summary


def table(runs: Sequence[Recorded], scale: str) -> Table:
    """One row per metric of interest, one column per experiment."""
    title = f"{scale}: accuracy of the chosen answer in %, [95 % interval] of one seed or ± half the range of seeds"
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for run in runs:
        made.add_column(_heading(run), justify="right", no_wrap=True)
    for label, shown in _rows(runs):
        made.add_row(label, *(shown(run) for run in runs))
    return made


def _heading(run: Recorded) -> str:
    heading = run.name if len(run.seeds) == 1 else f"{run.name}\n{len(run.seeds)} seeds"
    return f"{heading}\n{run.unfinished} unfinished" if run.unfinished else heading


def _rows(runs: Sequence[Recorded]) -> list[tuple[str, Callable[[Recorded], str]]]:
    keys = _keys(runs)
    rows: list[tuple[str, Callable[[Recorded], str]]] = []
    for name, methods in _curves(keys).items():
        for method, curve in methods.items():
            for n in _few(curve, one=method == "bon"):  # of one candidate every rule makes the same
                key = curve[n]
                label = f"{name}  {_LABELS[method]}  N={n}"
                rows.append((label, lambda run, key=key: run.shown(key)))  # type: ignore[misc]
    for key in keys:
        if key == "train/loss" or re.search(r"(^|/)auc$", key):
            rows.append((key, lambda run, key=key: run.shown(key, scale=1.0, digits=4)))  # type: ignore[misc]
    return rows


def _keys(runs: Sequence[Recorded]) -> list[str]:
    return list(dict.fromkeys(key for run in runs for metrics in run.seeds for key in metrics))


def _curves(keys: Iterable[str]) -> dict[str, dict[str, dict[int, str]]]:
    """Candidate set -> method -> N -> metric name, methods in the order of ``_LABELS``."""
    found: dict[str, dict[str, dict[int, str]]] = {}
    for key in keys:
        if match := _CURVE.fullmatch(key):
            method, name, n = match.groups()
            found.setdefault(name, {m: {} for m in _LABELS})[method][int(n)] = key
    return found


def _few(curve: Iterable[int], one: bool) -> list[int]:
    """1 (if wanted), 4, 16, ... and the largest."""
    ns = sorted(curve)
    return [n for n in ns if n == ns[-1] or (n.bit_count() == 1 and n.bit_length() % 2 and n > 1 - one)]


def draw(runs: Sequence[Recorded], path: Path) -> bool:
    """Best-of-N of every run with its band, votes and any-of-N as lines, one panel per candidate set; False if none."""
    from matplotlib.figure import Figure  # half a second; no window, no global state

    curves = _curves(_keys(runs))
    if not curves:
        return False
    figure = Figure(figsize=(6.0 * len(curves), 4.5), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (name, methods) in zip(panels, curves.items(), strict=True):
        for run in runs:
            _draw_band(panel, run, methods["bon"])
        for method, style in (("majority", "--"), ("any", ":")):
            _draw_reference(panel, runs, methods[method], _LABELS[method], style)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set(title=name, xlabel="candidates N", ylabel="accuracy of the chosen answer, %")
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    return True


def _draw_band(panel: Any, run: Recorded, curve: Mapping[int, str]) -> None:
    ns = [n for n in sorted(curve) if run.values(curve[n])]
    if not ns:
        return
    mean, low, high = zip(*(run.band(curve[n]) for n in ns), strict=True)
    (line,) = panel.plot(ns, mean, marker="o", markersize=3, label=run.name)
    panel.fill_between(ns, low, high, alpha=0.15, color=line.get_color(), linewidth=0)


def _draw_reference(panel: Any, runs: Sequence[Recorded], curve: Mapping[int, str], label: str, style: str) -> None:
    """The same candidates whatever was trained: one line, the mean over runs."""
    points = {n: [v for run in runs for v in run.values(curve[n])] for n in sorted(curve)}
    if points:
        panel.plot(list(points), [100 * fmean(v) for v in points.values()], style, color="0.4", label=label)
