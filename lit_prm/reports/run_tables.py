"""The tables of one judgement on 80 columns: accuracy by rule and N, gains over baselines, accuracy by subject."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from rich.console import Console

from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.estimate import Estimate, gain, number, percent
from lit_prm.evaluation.tables import Table, show

Metrics = Mapping[str, float]

VALUE_LAST = "value-last"  # the score that is the value of the last prefix
LABELS = {  # of scorers that need no training; others go by their own name
    "reference-sum": "ref. log-lik., sum",
    "reference-per-token": "ref. log-lik., per token",
    "reference-min": "ref. log-lik., worst step",
}
MOST_COLUMNS = 7  # numbers of candidates shown beside a label of 28 characters


def best_of_n_table(metrics: Metrics, sets: Collection[str] = (), console: Console | None = None) -> None:
    """Print three tables for every candidate set, or for those of ``sets`` that were judged."""
    judged = dict.fromkeys(key.split("/")[1] for key in metrics if key.startswith("bon/"))
    for name in [name for name in judged if name in sets] or judged:
        show(run_tables(name, metrics), console)


def run_tables(name: str, metrics: Metrics) -> tuple[Table, ...]:
    """Accuracy by rule and N, paired gains, accuracy by level and subject of the candidate set ``name``."""
    return _accuracy(name, metrics), _gains(name, metrics), _breakdown(name, metrics)


def _accuracy(name: str, metrics: Metrics) -> Table:
    counts = few(judged_counts(name, metrics))
    rows: list[tuple[str, ...]] = []
    for label, prefix in _rules(name, metrics):
        if f"{prefix}/acc@{counts[-1]}" in metrics:
            rows.append((label, *(percent(metrics.get(f"{prefix}/acc@{n}")) for n in counts)))
            rows += [()] if prefix == f"any/{name}" else []  # the rules below this line need no training
    return Table(("chosen by", *(f"N={n}" for n in counts)), tuple(rows), f"{name}: accuracy of the chosen answer, %")


def _rules(name: str, metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Label and metric prefix of every row: trained scores, votes and the ceiling, scores without training."""
    scorers = _scorers(name, metrics)
    trained = [scorer for scorer in scorers if scorer in (*AGGREGATES, VALUE_LAST)]
    yield from ((f"best of N, {scorer}", f"bon/{name}/{scorer}") for scorer in trained)
    yield from ((f"weighted vote, {scorer}", f"vote/{name}/{scorer}") for scorer in trained[:1])
    yield from (("majority vote", f"majority/{name}"), ("any right", f"any/{name}"))
    yield from ((LABELS.get(s, s), f"bon/{name}/{s}") for s in scorers if s not in trained)
    yield "vote by ref. log-lik.", f"vote/{name}/reference-min"


def _scorers(name: str, metrics: Metrics) -> list[str]:
    """Scorers of best-of-N in the order logged: the model's aggregates first, the primary before the others."""
    matches = (re.fullmatch(rf"bon/{re.escape(name)}/([^/]+)/acc@\d+", key) for key in metrics)
    scorers = dict.fromkeys(match[1] for match in matches if match)
    return [scorer for scorer in scorers if not scorer.startswith(("level-", "subject-"))]


def judged_counts(name: str, metrics: Metrics) -> list[int]:
    """The numbers of candidates N at which the set was judged, ascending."""
    start = f"majority/{name}/acc@"
    return sorted(int(key[len(start) :]) for key in metrics if key.startswith(start) and key[len(start) :].isdigit())


def few(counts: Sequence[int]) -> list[int]:
    """All counts; of too many for the width the first, the last and every second one before the last."""
    return list(counts) if len(counts) <= MOST_COLUMNS else sorted({counts[0], *counts[::-2][: MOST_COLUMNS - 1]})


def _gains(name: str, metrics: Metrics) -> Table:
    rows = []
    for label, key in _compared(name, judged_counts(name, metrics)):
        difference = Estimate.recorded(metrics, f"gain/{name}/{key}")
        rows += [(label, gain(difference.scaled()))] if difference else []
    at = next((i for i, (label, _) in enumerate(rows) if label.startswith("...")), len(rows))
    rows[at:at] = [(label, percent(metrics[key])) for label, key in _found(name, metrics)]
    for label, key in (("outcome AUC", "auc"), ("outcome AUC within problems", "auc_within_problems")):
        auc = metrics.get(f"outcome/{name}/{key}")
        rows += [] if auc is None else [(label, number(auc, ".3f"))]
    return Table(("", "points, 95 % interval"), tuple(rows), f"{name}: paired gains")


def _found(name: str, metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Label and key of the share of first wrong steps that are found: of all, and of each kind of error."""
    pattern = re.compile(rf"steps/{re.escape(name)}/(?:([^/]+)/)?first_error_found")
    for key in metrics:
        if match := pattern.fullmatch(key):
            yield f"first wrong step found, {match[1]}, %" if match[1] else "first wrong step found, %", key


def _compared(name: str, counts: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Label and key of every paired gain."""
    for n in _telling(counts):
        yield f"best of {n} minus random", f"bon-random@{n}"
        yield f"vote of {n} minus majority", f"vote-majority@{n}"
        yield f"best of {n} minus ref. worst step", f"bon-reference@{n}"
        yield f"vote of {n} minus vote by ref.", f"vote-reference@{n}"
    for rule, label in (("chance", "chance"), ("position", "commonest place"), ("reference", "ref. worst step")):
        yield f"... minus {label}", f"first_error-{rule}"


def _telling(counts: Sequence[int]) -> list[int]:
    """4 and 16; the largest count takes the place of one that is missing."""
    wanted = [n for n in counts if n in (4, 16)]
    return wanted if len(wanted) == 2 else sorted({*wanted, *counts[-1:]} - {1})


def _breakdown(name: str, metrics: Metrics) -> Table:
    counts = judged_counts(name, metrics)
    n = 16 if 16 in counts else max(counts, default=0)
    scored = f"bon/{name}/acc@{n}" in metrics
    methods = {"bon": "best of N", "vote": "weighted vote", "majority": "majority"}
    methods = methods if scored else {"majority": "majority", "any": "any right"}
    matches = (re.fullmatch(rf"any/{re.escape(name)}/((?:level|subject)-[^/]+)/acc@{n}", key) for key in metrics)
    rows = []
    for part in (match[1] for match in matches if match):
        cells = (percent(metrics.get(f"{m}/{name}/{part}/acc@{n}")) for m in methods)
        rows.append((part.removeprefix("subject-").replace("-", " "), *cells))
    return Table(("", *methods.values()), tuple(rows), f"{name}: accuracy by level and subject at N={n}, %")
