"""Results as numbers for JSON and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lit_prm.evaluation.tables import interval
from lit_prm.reports.processbench.literature import REPORTED
from lit_prm.reports.processbench.minimum import minimum
from lit_prm.reports.processbench.protocol import Found, Judged, SubsetResults, average
from lit_prm.reports.processbench.subset import READINGS, Subset

Numbers = Mapping[str, Any]


# ---- numbers -------------------------------------------------------------------------------------


def as_numbers(results: SubsetResults) -> dict[str, Any]:
    """All results as JSON: shares, not percent; nan as null. The literature's rows stand apart."""
    found: dict[str, Any] = _without_nan(
        {
            "threshold_chosen_on": results.choose,
            "subsets": {name: _size(subset) for name, subset in results.subsets.items()},
            "readings": {name: _reading(name, of, results) for name, of in results.judged.items()},
            "guesses": {
                name: {s: found.numbers() for s, found in of.items()} | _averages(of, results.choose)
                for name, of in results.guessed.items()
            },
            "reported_by_others": [row._asdict() for row in REPORTED],
        }
    )
    return found


def _size(subset: Subset) -> dict[str, int]:
    wrong = int((subset.labels.first_error >= 0).sum())
    return {
        "items": len(subset.rewards), "wrong": wrong, "right": len(subset.rewards) - wrong,
        "truncated": subset.truncated, "errors_without_score": subset.errors_without_score,
    }  # fmt: skip


def _reading(name: str, judged: Mapping[str, Judged], results: SubsetResults) -> dict[str, Any]:
    (reading,) = (reading for reading in READINGS if reading.name == name)
    out: dict[str, Any] = {s: of.numbers() for s, of in judged.items()}
    for s in judged:
        subset = results.subsets[s]
        scores = subset.scores(reading)
        assert scores is not None, "it was judged"
        out[s]["minimum"] = minimum(scores, subset.labels)._asdict()
    means = _averages({s: of.found for s, of in judged.items()}, results.choose)
    means["average"]["oracle_f1"] = sum(of.oracle.f1 for of in judged.values()) / len(judged)
    return out | means


def _averages(found: Mapping[str, Found], choose: str) -> dict[str, dict[str, float]]:
    """Over all subsets, as the benchmark reports it, and over those whose labels chose nothing."""
    return {
        "average": average(list(found.values())),
        "average_of_others": average([of for s, of in found.items() if s != choose]),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(of) for of in value]
    return None if isinstance(value, float) and value != value else value


# ---- tables --------------------------------------------------------------------------------------


def show(numbers: Numbers, console: Console | None = None) -> None:
    """F1 of everything; then each reading in detail, where its lowest steps lie, and what others report."""
    console = console or Console()
    for table in (_f1(numbers), *_details(numbers), _minima(numbers), _reported(numbers)):
        console.print(table)
    cut = {name: size for name, size in numbers["subsets"].items() if size["truncated"]}
    for name, size in cut.items():
        console.print(
            f"{name}: {size['truncated']} of {size['items']} responses were cut; "
            f"{size['errors_without_score']} first errors have no score and count as missed"
        )


def _f1(numbers: Numbers) -> Table:
    chosen, names = numbers["threshold_chosen_on"], list(numbers["subsets"])
    columns = (*names, "average", "average_of_others")
    heads = [f"{name} *" if name == chosen else name for name in names]
    title = f"F1 in % [95 % over problems]; * the threshold was chosen here: {chosen} is no test of it"
    table = _table(title, "", *heads, "average", f"without {chosen}")
    trained = [r.name for r in READINGS if r.trained and r.name in numbers["readings"]]

    def add(label: str, of: Numbers, key: str = "f1") -> None:
        table.add_row(label, *(_cell(of, name, key) for name in columns))

    for reading in trained:
        add(reading, numbers["readings"][reading])
        add("  each half by the other's", numbers["readings"][reading], "cross_fitted_f1")
        add("  oracle: each by its own", numbers["readings"][reading], "oracle_f1")
    table.add_section()
    for reading in (name for name in numbers["readings"] if name not in trained):
        add(reading, numbers["readings"][reading])
    for guess, of in numbers["guesses"].items():
        add(guess, of)
    return table


def _cell(of: Numbers, name: str, key: str) -> str:
    found = {k: value for k, value in of.get(name, {}).items() if value is not None}
    return interval(found, key) if key in found else ""


def _details(numbers: Numbers) -> list[Table]:
    heads = ("wrong", "right", "error acc.", "correct acc.", "F1", "threshold", "AUC", "AUC within")
    tables = []
    for reading, of in numbers["readings"].items():
        table = _table(f"{reading}: accuracies in %, AUC of right steps against first wrong ones", "", *heads)
        for name, size in numbers["subsets"].items():
            found = of.get(name, {})
            rates = (_percent(found.get(key)) for key in ("error_acc", "correct_acc", "f1"))
            rest = (_number(found.get(key)) for key in ("threshold", "step_auc", "step_auc_within"))
            table.add_row(name, str(size["wrong"]), str(size["right"]), *rates, *rest)
        tables.append(table)
    return tables


def _minima(numbers: Numbers) -> Table:
    heads = ("in last step", "(chance)", "mean place 0-1", "at first error", "(chance)")
    table = _table("where the lowest step lies, % of responses", "", *heads)
    for reading, of in numbers["readings"].items():
        for name in numbers["subsets"]:
            found = of.get(name, {}).get("minimum")
            if found:
                last, last_chance, place, error, error_chance = found.values()
                cells = (_percent(last), _percent(last_chance), _number(place), _percent(error), _percent(error_chance))
                table.add_row(f"{name}, {reading}", *cells)
        table.add_section()
    return table


def _reported(numbers: Numbers) -> Table:
    title = "reported by others, F1 in %; by subset: gsm8k, math, olympiadbench, omnimath"
    table = _table(title, "", "average", "by subset", "source")
    for row in numbers["reported_by_others"]:
        by_subset = " ".join(f"{x:.1f}" for x in row["subsets"] or ())
        table.add_row(row["model"], f"{row['average']:.1f}", by_subset, row["source"])
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
