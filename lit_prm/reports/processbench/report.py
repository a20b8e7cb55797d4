"""The results of ProcessBench as numbers for JSON and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml
from rich.console import Console

from lit_prm.evaluation.estimate import Estimate, level, number, percent
from lit_prm.evaluation.tables import Table, show
from lit_prm.reports.files import json_value
from lit_prm.reports.processbench.protocol import FirstErrorResult, Judged, SubsetResults, average, minimum
from lit_prm.reports.processbench.subset import READINGS, Subset

Numbers = Mapping[str, Any]


def as_numbers(results: SubsetResults) -> dict[str, Any]:
    """All results as JSON: shares, not percent; null for nan. Numbers of other papers have a key of their own."""
    return {
        "threshold_chosen_on": results.choose,
        "subsets": {name: _size(subset) for name, subset in results.subsets.items()},
        "readings": json_value({name: _reading(name, of, results) for name, of in results.judged.items()}),
        "guesses": json_value({name: _guess(of, results.choose) for name, of in results.guessed.items()}),
        "reported_by_others": _literature(),
    }


def _guess(of: Mapping[str, FirstErrorResult], choose: str) -> dict[str, dict[str, float]]:
    return {subset: result.numbers() for subset, result in of.items()} | _averages(of, choose)


def _literature() -> list[dict[str, Any]]:
    """F1 that papers report, with their own models and thresholds."""
    reported = yaml.safe_load((files("lit_prm.reports.processbench") / "reported.yaml").read_text(encoding="utf-8"))
    rows = [(source, *row) for source, of_source in reported.items() for row in of_source]
    return [{"model": model, "average": f1, "source": source, "subsets": each} for source, model, f1, each in rows]


def _size(subset: Subset) -> dict[str, int]:
    wrong = int((subset.labels.first_error >= 0).sum())
    return {
        "items": len(subset.rewards), "wrong": wrong, "right": len(subset.rewards) - wrong,
        "truncated": subset.truncated, "errors_without_score": subset.errors_without_score,
        "without_reward": subset.without_reward,
    }  # fmt: skip


def _reading(name: str, judged: Mapping[str, Judged], results: SubsetResults) -> dict[str, Any]:
    (reading,) = (reading for reading in READINGS if reading.name == name)
    out: dict[str, Any] = {s: of.numbers() for s, of in judged.items()}
    for s in judged:
        subset = results.subsets[s]
        scores = subset.scores(reading)
        assert scores is not None, "it was judged"
        out[s]["minimum"] = minimum(scores, subset.labels)._asdict()
    means = _averages({s: of.result for s, of in judged.items()}, results.choose)
    means["average"]["oracle_f1"] = sum(of.oracle.f1 for of in judged.values()) / len(judged)
    fixed = _averages({s: of.fixed for s, of in judged.items() if of.fixed}, results.choose)
    return out | {
        name: of | {f"fixed_{key}": value for key, value in fixed[name].items()} for name, of in means.items()
    }


def _averages(results: Mapping[str, FirstErrorResult], choose: str) -> dict[str, dict[str, float]]:
    """The average over all subsets, as the benchmark reports it, and over the subsets that chose no threshold."""
    return {
        "average": average(list(results.values())),
        "average_of_others": average([of for s, of in results.items() if s != choose]),
    }


def show_numbers(numbers: Numbers, console: Console | None = None) -> None:
    """Print F1 of everything, each reading in detail, where its lowest steps lie, and what others report."""
    show([_f1(numbers), *_details(numbers), _minima(numbers), _reported(numbers)], console)


def _f1(numbers: Numbers) -> Table:
    chosen, names = numbers["threshold_chosen_on"], list(numbers["subsets"])
    columns = (*names, "average", "average_of_others")
    heads = [f"{name} *" if name == chosen else name for name in names]
    trained = [r.name for r in READINGS if r.trained and r.name in numbers["readings"]]
    others = {name: of for name, of in numbers["readings"].items() if name not in trained} | numbers["guesses"]

    def row(label: str, of: Numbers, key: str = "f1") -> tuple[str, ...]:
        shares = (Estimate.recorded(of.get(name, {}), key) for name in columns)
        return label, *(level(share.scaled(), ends=".0f") if share else "" for share in shares)

    rows: list[tuple[str, ...]] = []
    for reading in trained:
        of = numbers["readings"][reading]
        rows.append(row(reading, of))
        rows.append(row("  each half by the other's", of, "cross_fitted_f1"))
        rows.append(row("  oracle: each by its own", of, "oracle_f1"))
        if (fixed := numbers.get("fixed_probability")) is not None:
            rows.append(row(f"  at probability {fixed:g}", of, "fixed_f1"))
    rows += [(), *(row(label, of) for label, of in others.items())]
    title = f"F1 in % [95 % over problems]; * the threshold was chosen here: {chosen} is no test of it"
    return Table(("", *heads, "average", f"without {chosen}"), tuple(rows), title, _cuts(numbers), wraps=True)


def _cuts(numbers: Numbers) -> tuple[str, ...]:
    return tuple(
        f"{name}: {size['truncated']} of {size['items']} responses were cut, {size['without_reward']} have rewards "
        f"that are no numbers; {size['errors_without_score']} first errors have no score and count as missed"
        for name, size in numbers["subsets"].items()
        if size["truncated"] or size["without_reward"]
    )


def _details(numbers: Numbers) -> list[Table]:
    heads = ("wrong", "right", "error acc.", "correct acc.", "F1", "threshold", "AUC", "AUC within")
    tables = []
    for reading, of in numbers["readings"].items():
        rows = []
        for name, size in numbers["subsets"].items():
            values = of.get(name, {})
            rates = (percent(values.get(key)) for key in ("error_acc", "correct_acc", "f1"))
            rest = (number(values.get(key), ".3g") for key in ("threshold", "step_auc", "step_auc_within"))
            rows.append((name, str(size["wrong"]), str(size["right"]), *rates, *rest))
        title = f"{reading}: accuracies in %, AUC of right steps against first wrong ones"
        tables.append(Table(("", *heads), tuple(rows), title, wraps=True))
    return tables


def _minima(numbers: Numbers) -> Table:
    heads = ("in last step", "(chance)", "mean place 0-1", "at first error", "(chance)")
    rows: list[tuple[str, ...]] = []
    for reading, of in numbers["readings"].items():
        for name in numbers["subsets"]:
            if lowest := of.get(name, {}).get("minimum"):
                last, last_chance, place, error, error_chance = lowest.values()
                shares = (percent(last), percent(last_chance), number(place, ".3g"))
                rows.append((f"{name}, {reading}", *shares, percent(error), percent(error_chance)))
        rows.append(())
    return Table(("", *heads), tuple(rows), "where the lowest step lies, % of responses", wraps=True)


def _reported(numbers: Numbers) -> Table:
    rows = [
        (row["model"], f"{row['average']:.1f}", " ".join(f"{x:.1f}" for x in row["subsets"] or ()), row["source"])
        for row in numbers["reported_by_others"]
    ]
    title = "reported by others, F1 in %; by subset: gsm8k, math, olympiadbench, omnimath"
    return Table(("", "average", "by subset", "source"), tuple(rows), title, wraps=True)
