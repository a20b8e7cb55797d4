"""The tables of a comparison."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import fmean

from lit_prm.evaluation.estimate import NOTHING, Estimate, gain, level, number, percent, power, probability
from lit_prm.evaluation.tables import Cell, Table
from lit_prm.reports.compare.evidence import Evidence, Sets
from lit_prm.reports.estimates import Difference
from lit_prm.reports.runs import Experiment

METHODS = {"bon": "best-of-N", "vote": "weighted vote", "majority": "majority vote", "any": "any right"}
COST = "cost/total_flops"
_PARTS = ("generation", "labelling", "reference", "training", "earlier", "total")
_STEPS = {
    "first_error_found": "first wrong step found, %", "first_error_by_reference": "... by the reference",
    "first_error_by_position": "... by its place", "first_error_by_chance": "... by chance",
    "auc": "AUC of steps", "f1": "F1 of wrong steps, %",
}  # fmt: skip


def shared(values: Sequence[str]) -> str:
    """The values that differ, in order, joined."""
    return ", ".join(dict.fromkeys(values))


def versus(names: Sequence[str]) -> str:
    """`a vs b`; of many names the first four, and how many more."""
    return " vs ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def duration(seconds: float | None) -> str:
    """`104 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return NOTHING
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def compared(evidence: Evidence) -> Table:
    """Which runs of which code every experiment stands for."""
    rows = []
    for experiment in evidence.experiments.values():
        runs = experiment.runs
        rows.append((
            experiment.name, ", ".join(map(str, experiment.seeds)), shared([run.code for run in runs]),
            shared([time.strftime("%Y-%m-%d", time.gmtime(run.ended)) for run in runs]),
            shared([run.mlflow_id[:8] or NOTHING for run in runs]),
        ))  # fmt: skip
    return Table(("experiment", "seeds", "commit", "finished", "MLflow runs"), tuple(rows), numbers=False)


def headline(evidence: Evidence) -> tuple[Table, ...]:
    """Best-of-N at 4, 16 and the most candidates: the mean over sets, then every set; the best of each in bold."""
    places: list[tuple[str, Sets]] = [(name, (name,)) for name in evidence.sets]
    if len(evidence.sets) > 1:
        places.insert(0, (f"mean over {', '.join(evidence.sets)}", evidence.sets))
    return tuple(_headline(evidence, title, sets) for title, sets in places if evidence.counts(sets))


def _headline(evidence: Evidence, title: str, sets: Sets) -> Table:
    counts = dict.fromkeys((evidence.counts(sets)[0], *evidence.telling(sets)))
    columns = [_marked([evidence.estimate(name, "bon", sets, (n,)) for name in evidence.names]) for n in counts]
    rows = tuple(zip(evidence.names, *columns, strict=True))
    return Table(("experiment", *(f"N={n}" for n in counts)), rows, title)


def accuracy(evidence: Evidence, candidates: str, counts: Sequence[int]) -> Table:
    """Every rule at these N on one set; rules that need no scorer have one row for all experiments."""
    rows: list[tuple[str, ...]] = []
    for method in ("bon", "vote"):
        of_method = [(name, *_levels(evidence, name, method, candidates, counts)) for name in evidence.names]
        heading = (Cell(METHODS[method], "quiet"), *[""] * len(counts))
        rows += [heading, *of_method] if any(set(row[1:]) != {NOTHING} for row in of_method) else []
    most = max(evidence.names, key=lambda name: len(evidence.experiments[name].seeds))
    rows += [(METHODS[method], *_levels(evidence, most, method, candidates, counts)) for method in ("majority", "any")]
    shown = tuple(row for row in rows if set(row[1:]) != {NOTHING})
    title = f"{candidates}: accuracy of the chosen answer, % [95 % interval]"
    return Table(("chosen by", *(f"N={n}" for n in counts)), shown, title=title, folded=True)


def _levels(evidence: Evidence, name: str, method: str, candidates: str, counts: Sequence[int]) -> list[str]:
    return [level(evidence.estimate(name, method, (candidates,), (n,))) for n in counts]


def pairs(evidence: Evidence, sets: Sets, title: str, folded: bool = False) -> Table | None:
    """Every pair at 4, 16 and the most candidates, each N a family of its own; None where nothing can be paired."""
    counts = evidence.telling(sets)
    columns = [evidence.pairs("bon", sets, (n,)) for n in counts]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = tuple((f"{ours} - {theirs}", *(_pair(c.get((ours, theirs))) for c in columns)) for ours, theirs in keys)
    heading = ("difference in points", *(f"N={n}" for n in counts))
    return Table(heading, rows, title=title, folded=folded) if rows else None


def _pair(pair: Difference | None) -> Cell:
    if pair is None:
        return Cell(NOTHING, "quiet")
    beyond = "gain" if pair.estimate.mean > 0 else "loss"
    p = probability(pair.p)
    text = gain(pair.estimate) + (f",\n{p}" if p else "")
    return Cell(text, beyond if pair.p < 0.05 else "quiet")


def measured(evidence: Evidence) -> Table | None:
    """Last training loss and AUC, FLOPs and time of every experiment."""
    rows = []
    for name, experiment in evidence.experiments.items():
        ended = (number(experiment.mean(key), ".4f") for key in ("train/loss", "train/auc"))
        rows.append((name, *ended, power(experiment.mean(COST)), duration(_seconds(experiment))))
    heading = ("experiment", "train/loss", "train/auc", "FLOPs", "wall clock")
    return Table(heading, tuple(rows), title="training, means over seeds")


def _seconds(experiment: Experiment) -> float | None:
    seconds = [run.seconds for run in experiment.runs if run.seconds is not None]
    return fmean(seconds) if seconds else None


def cost(evidence: Evidence) -> Table | None:
    """FLOPs by part, tokens and time, means over seeds; None where no run counted them."""
    rows = []
    for name, experiment in evidence.experiments.items():
        flops = [experiment.mean(f"cost/{part}_flops") for part in _PARTS]
        tokens = power(experiment.mean("cost/total_tokens"))
        rows.append((name, *map(power, flops), tokens, duration(_seconds(experiment))))
    heading = ("experiment", *(f"{part}, FLOPs" for part in _PARTS), "tokens", "wall clock")
    return Table(heading, tuple(rows)) if any(set(row[1:]) != {NOTHING} for row in rows) else None


def steps(evidence: Evidence, candidates: str) -> Table | None:
    """How well step rewards find wrong steps on one set; None where no step is labelled."""
    keys = [key for key in _STEPS if any(e.values(f"steps/{candidates}/{key}") for e in evidence.experiments.values())]
    columns = [[_step(evidence, name, candidates, key) for name in evidence.names] for key in keys]
    rows = tuple(zip(evidence.names, *columns, strict=True))
    return Table(("experiment", *(_STEPS[key] for key in keys)), rows, title=candidates) if keys else None


def _step(evidence: Evidence, name: str, candidates: str, key: str) -> str:
    if key == "first_error_found":
        estimate = evidence.estimate(name, "first_error/found", (candidates,), evidence.counts((candidates,))[-1:])
        return level(estimate or evidence.of_metric(name, f"steps/{candidates}/{key}"))
    mean = evidence.experiments[name].mean(f"steps/{candidates}/{key}")
    return number(mean, ".3f") if key == "auc" else percent(mean)


def _marked(column: Sequence[Estimate | None]) -> list[str]:
    """The cells of a column; the highest mean is marked as the best unless all are equal."""
    means = [cell.mean for cell in column if cell is not None]
    best = max(means) if len(set(means)) > 1 else math.inf
    return [Cell(level(cell), "best" if cell is not None and cell.mean == best else "") for cell in column]
