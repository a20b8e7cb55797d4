"""Numbers of `benchmarks.updates` that have a limit, and whether each meets it (docs/performance.md, (a) to (g))."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Sides = Mapping[str, Mapping[str, float]]  # of one table, each with its medians


class Rule(NamedTuple):
    """A number and its limit, which is a least or a largest value."""

    row: str  # of the list
    text: str
    job: str
    value: Callable[[Sides], float]
    least: Mapping[str, float] = {}  # by precision
    most: float | None = None
    shape: str = "smollm2"
    unit: str = "x"


def faster(side: str, key: str = "cpu") -> Callable[[Sides], float]:
    """Time of TRL's better setting, as a multiple of ours."""
    return lambda sides: _theirs(sides, key) / sides[side][key]


def memory(side: str) -> Callable[[Sides], float]:
    return lambda sides: 100 * sides[side]["peak_gb"] / _theirs(sides, "peak_gb")


def overhead(sides: Sides) -> float:
    """Time that trainer, module and callbacks add to a bare loop of updates, in percent."""
    return 100 * (sides["ours warm"]["updates_cpu"] / sides["ours bare"]["updates_cpu"] - 1)


def share(sides: Sides) -> float:
    return 100 * sides["ours bare"]["of_floor"]


def _theirs(sides: Sides, key: str) -> float:
    """TRL's better setting for this number; KeyError if it was not run."""
    found = [row[key] for side, row in sides.items() if side.startswith("trl")]
    if not found:
        raise KeyError("trl")
    return min(found)


def _alike(least: float) -> Mapping[str, float]:
    return {"float32": least, "bfloat16": least}


_SINGLE = {"float32": 1.8, "bfloat16": 3.5}
RULES = (
    Rule("a", "DPO on all pairs, store warm", "dpo", faster("ours warm"), {"float32": 4.0, "bfloat16": 6.0}),
    Rule("a", "DPO on all pairs, store cold", "dpo", faster("ours cold"), _alike(3.0)),
    Rule("b", "CE against bco_pair, store warm", "ce", faster("ours warm"), _SINGLE),
    Rule("b", "CE against bco_pair, store cold", "ce", faster("ours cold"), _alike(1.3)),
    Rule("b", "unpaired against apo_zero_unpaired, store warm", "kto", faster("ours warm"), _SINGLE),
    Rule("b", "unpaired against apo_zero_unpaired, store cold", "kto", faster("ours cold"), _alike(1.3)),
    Rule("c", "sweep of two epochs, store cold", "sweep", faster("ours cold"), _alike(4.0)),
    Rule("c", "sweep of two epochs, store warm", "sweep", faster("ours warm"), _alike(4.0)),
    Rule("c", "sweep, to its first update, store warm", "sweep", faster("ours warm", "first_cpu"), _alike(8.0)),
    Rule("e", "peak memory beside TRL's, store warm", "dpo", memory("ours warm"), most=45, unit="%"),
    Rule("e", "peak memory beside TRL's, store cold", "dpo", memory("ours cold"), most=45, unit="%"),
    Rule("f", "trainer over a bare loop, SmolLM2's shape", "dpo", overhead, most=5, unit="%"),
    Rule("f", "trainer over a bare loop, scale tiny", "tiny", overhead, most=15, shape="tiny", unit="%"),
    Rule("g", "share of the matrix product rate", "dpo", share, _alike(60.0), unit="%"),
)


def judged(tables: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line for each measured number; a number is measured only if both sides have equal results."""
    for table in tables:
        for rule in RULES:
            if (rule.job, rule.shape) == (table["job"], table["shape"]) and "sides" in table:
                yield from _line(rule, table)


def _line(rule: Rule, table: Mapping[str, Any]) -> Iterator[str]:
    try:
        value = rule.value(table["sides"])
    except KeyError:  # a side that was not asked for
        return
    limit = rule.least[table["dtype"]] if rule.most is None else rule.most
    met = value >= limit if rule.most is None else value <= limit
    bound = "at least" if rule.most is None else "at most"
    name = f"({rule.row}) {rule.text}, {table['dtype']}"
    yield f"{name}: {'met' if met else 'not met'}: {value:.2f}{rule.unit}, {bound} {limit:g}{rule.unit}"
