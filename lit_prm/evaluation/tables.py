"""Tables a person can read on 80 columns: what one run found, with its baselines beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from lit_prm.evaluation.aggregates import AGGREGATES

Metrics = Mapping[str, float]

VALUE_LAST = "value-last"  # the score that is the value of the last prefix
LABELS = {  # of scorers that need no training; others go by their own name
    "reference-sum": "ref. log-lik., sum",
    "reference-per-token": "ref. log-lik., per token",
    "reference-min": "ref. log-lik., worst step",
}
MOST_COLUMNS = 7  # numbers of candidates shown beside a label of 28 characters


def best_of_n_table(metrics: Metrics, sets: Collection[str] = (), console: Console | None = None) -> None:
    """Three tables for every candidate set (of ``sets``, if named): accuracy by rule and N, gains, breakdown."""
    console = console or Console()
    found = dict.fromkeys(key.split("/")[1] for key in metrics if key.startswith("bon/"))
    for name in [name for name in found if name in sets] or found:
        for table in (_accuracy(name, metrics), _gains(name, metrics), _breakdown(name, metrics)):
            if table.row_count:
                console.print(table)


# --- accuracy by rule and number of candidates ----------------------------------------------------


def _accuracy(name: str, metrics: Metrics) -> Table:
    counts = few(_counts(name, metrics))
    table = plain_table(f"{name}: accuracy of the chosen answer, %", "chosen by", *(f"N={n}" for n in counts))
    for label, prefix in _rules(name, metrics):
        if f"{prefix}/acc@{counts[-1]}" not in metrics:
            continue
        table.add_row(label, *(_percent(metrics, f"{prefix}/acc@{n}") for n in counts))
        if prefix == f"any/{name}":  # below it nothing was trained
            table.add_section()
    return table


def _rules(name: str, metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Label and metric prefix of every row: what was trained, votes and the ceiling, what needs no training."""
    scorers = _scorers(name, metrics)
    trained = [scorer for scorer in scorers if scorer in (*AGGREGATES, VALUE_LAST)]
    yield from ((f"best of N, {scorer}", f"bon/{name}/{scorer}") for scorer in trained)
    yield from ((f"weighted vote, {scorer}", f"vote/{name}/{scorer}") for scorer in trained[:1])
    yield from (("majority vote", f"majority/{name}"), ("any right", f"any/{name}"))
    yield from ((LABELS.get(s, s), f"bon/{name}/{s}") for s in scorers if s not in trained)
    yield "vote by ref. log-lik.", f"vote/{name}/reference-min"


def _scorers(name: str, metrics: Metrics) -> list[str]:
    """Scorers of best-of-N in the order logged: the model's aggregates first, the primary before the others."""
    found = (re.fullmatch(rf"bon/{re.escape(name)}/([^/]+)/acc@\d+", key) for key in metrics)
    scorers = dict.fromkeys(match[1] for match in found if match)
    return [scorer for scorer in scorers if not scorer.startswith(("level-", "subject-"))]


def _counts(name: str, metrics: Metrics) -> list[int]:
    start = f"majority/{name}/acc@"
    return sorted(int(key[len(start) :]) for key in metrics if key.startswith(start) and key[len(start) :].isdigit())


def few(counts: list[int]) -> list[int]:
    """All, or where they are too many for the width the first, the last and every second one back from it."""
    return counts if len(counts) <= MOST_COLUMNS else sorted({counts[0], *counts[::-2][: MOST_COLUMNS - 1]})


# --- what was gained ------------------------------------------------------------------------------


def _gains(name: str, metrics: Metrics) -> Table:
    table = plain_table(f"{name}: paired gains, 95 % interval", "", "points", "interval")
    for n in _telling(_counts(name, metrics)):
        _add_gain(table, f"best of {n} minus random", metrics, f"gain/{name}/bon-random@{n}")
        _add_gain(table, f"vote of {n} minus majority", metrics, f"gain/{name}/vote-majority@{n}")
        _add_gain(table, f"best of {n} minus ref. worst step", metrics, f"gain/{name}/bon-reference@{n}")
        _add_gain(table, f"vote of {n} minus vote by ref.", metrics, f"gain/{name}/vote-reference@{n}")
    if f"steps/{name}/first_error_found" in metrics:
        table.add_row("first wrong step found, %", _percent(metrics, f"steps/{name}/first_error_found"))
    for rule, label in (("chance", "chance"), ("position", "commonest place"), ("reference", "ref. worst step")):
        _add_gain(table, f"... minus {label}", metrics, f"gain/{name}/first_error-{rule}")
    for label, key in (("outcome AUC", "auc"), ("outcome AUC within problems", "auc_within_problems")):
        if f"outcome/{name}/{key}" in metrics:
            table.add_row(label, f"{metrics[f'outcome/{name}/{key}']:.3f}")
    return table


def _telling(counts: list[int]) -> list[int]:
    """4 and 16, the largest in place of those that there are not."""
    wanted = [n for n in counts if n in (4, 16)]
    return wanted if len(wanted) == 2 else sorted({*wanted, *counts[-1:]} - {1})


def _add_gain(table: Table, label: str, metrics: Metrics, key: str) -> None:
    if key in metrics:
        ends = [f"{100 * metrics[end]:+.1f}" for end in (f"{key}/low", f"{key}/high") if end in metrics]
        table.add_row(label, f"{100 * metrics[key]:+.1f}", ", ".join(ends))


# --- subjects and levels --------------------------------------------------------------------------


def _breakdown(name: str, metrics: Metrics) -> Table:
    counts = _counts(name, metrics)
    n = 16 if 16 in counts else max(counts, default=0)
    scored = f"bon/{name}/acc@{n}" in metrics
    methods = {"bon": "best of N", "vote": "weighted vote", "majority": "majority"}
    methods = methods if scored else {"majority": "majority", "any": "any right"}
    table = plain_table(f"{name}: accuracy by level and subject at N={n}, %", "", *methods.values())
    found = (re.fullmatch(rf"any/{re.escape(name)}/((?:level|subject)-[^/]+)/acc@{n}", key) for key in metrics)
    for part in (match[1] for match in found if match):
        label = part.removeprefix("subject-").replace("-", " ")
        table.add_row(label, *(_percent(metrics, f"{m}/{name}/{part}/acc@{n}") for m in methods))
    return table


# --- cells ----------------------------------------------------------------------------------------


def plain_table(title: str, first: str, *columns: str) -> Table:
    """An empty table: a first column of labels, the others of numbers that never break."""
    width = min(len(title), 80)  # a title over few columns would be broken
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=width)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _percent(metrics: Metrics, key: str) -> str:
    return f"{100 * metrics[key]:.1f}" if key in metrics else ""


def interval(metrics: Metrics, key: str, scale: float = 100.0) -> str:
    """`41.2 [38, 44]`, or the value alone where no interval was recorded."""
    value = f"{scale * metrics[key]:.1f}"
    if f"{key}/low" not in metrics:
        return value
    return f"{value} [{scale * metrics[f'{key}/low']:.0f}, {scale * metrics[f'{key}/high']:.0f}]"
