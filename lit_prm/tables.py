"""Tables a person can read: what one run found, with its baselines beside it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

Metrics = Mapping[str, float]


def best_of_n_table(metrics: Metrics, console: Console | None = None) -> None:
    """Accuracy in percent by number of candidates, one table per candidate set; [low, high] is a 95 % interval."""
    console = console or Console()
    sets = dict.fromkeys(name.split("/")[1] for name in metrics if name.startswith("bon/"))
    for name in sets:
        console.print(_one_set(name, metrics))


def _one_set(name: str, metrics: Metrics) -> Table:
    rows = _rows(name, metrics)
    ns = sorted({n for curve in rows.values() for n in curve})
    table = Table(title=f"{name}: accuracy of the chosen answer, %", title_justify="left")
    table.add_column("chosen by")
    for n in ns:
        table.add_column(f"N={n}", justify="right")
    for label, curve in rows.items():
        table.add_row(label, *(curve.get(n, "") for n in ns))
    return table


def _rows(name: str, metrics: Metrics) -> dict[str, dict[int, str]]:
    """Label -> N -> shown value, in the order the metrics were logged."""
    rows: dict[str, dict[int, str]] = {}
    for key in metrics:
        method, _, rest = key.partition(f"/{name}/")
        *scorer, last = rest.split("/")
        if method in ("bon", "vote", "majority", "any") and last.startswith("acc@") and not _is_breakdown(scorer):
            label = " ".join([_METHODS[method], *scorer]).strip()
            rows.setdefault(label, {})[int(last[4:])] = interval(metrics, key)
    return rows


def interval(metrics: Metrics, key: str, scale: float = 100.0) -> str:
    """`41.2 [38.0, 44.1]`, or the value alone where no interval was recorded."""
    value = f"{scale * metrics[key]:.1f}"
    if f"{key}/low" not in metrics:
        return value
    return f"{value} [{scale * metrics[f'{key}/low']:.0f}, {scale * metrics[f'{key}/high']:.0f}]"


def _is_breakdown(scorer: list[str]) -> bool:
    return any(part.startswith(("level-", "subject-")) for part in scorer)


_METHODS = {"bon": "best-of-N", "vote": "weighted vote", "majority": "majority vote", "any": "any right"}
