"""Checked values of a row: text, label, answer, steps, level, id. Each function raises ``BadRow``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lit_prm.answers import reference_answer
from lit_prm.data.steps import laid

Row = Mapping[str, Any]

_HALF = re.compile("[\ud800-\udfff]")  # half of a surrogate pair, as a cut "\ud83d\ude00" leaves in JSON
_LABELS = {"true": True, "1": True, "1.0": True, "correct": True} | dict.fromkeys(
    ("false", "0", "0.0", "incorrect", "wrong"), False
)


class BadRow(ValueError):
    """Why a row cannot be read, and the remedy; the reader of the file adds the place."""


def wrong(name: str, value: object, rule: str, remedy: str) -> BadRow:
    """The error for a value that breaks a rule, with the remedy."""
    return BadRow(f"{name} is {str(repr(value))[:60]}, not {rule}; {remedy}")


def needed(row: Row, column: str) -> Any:
    """The value of a column that must not be missing or null."""
    if row.get(column) is None:
        raise BadRow(f"column {column!r} is missing or null; the row has {sorted(row)}, fill it in or remove the row")
    return row[column]


def is_nan(value: object) -> bool:
    """True for the number nan, which tables write for a missing value."""
    return isinstance(value, float) and math.isnan(value)


def string(value: object, name: str) -> str:
    """A string, which may be blank."""
    if not isinstance(value, str):
        raise wrong(name, value, "a string", "write it as text")
    if not value.isascii() and (half := _HALF.search(value)):  # tokenizers and files cannot take it
        at = half.start()
        raise BadRow(
            f"{name} has half a character {half.group()!r} at {at}, behind {value[max(at - 20, 0) : at]!r}, which is "
            "no Unicode; write the text again from its source or remove the row"
        )
    return value


def text(value: object, name: str) -> str:
    """A string that is not blank."""
    if not string(value, name).strip():
        raise BadRow(f"{name} is empty; leave it out")
    return str(value)


def strings(value: object, name: str) -> list[str]:
    """A list of strings, of which some may be blank."""
    return [string(item, f"{name}[{i}]") for i, item in enumerate(items(value, name))]


def sampled(value: object, correct: bool | None, name: str) -> str:
    """A response. It may be empty unless it is labelled right: a model may stop at once, but that is never right."""
    return "" if value == "" and not correct else text(value, name)


def maybe_text(value: object, name: str) -> str | None:
    """A string or None."""
    return None if value is None or is_nan(value) else string(value, name)


def items(value: object, name: str) -> Sequence[Any]:
    """The entries of a list, or of a list that is written as JSON text, as in a CSV file."""
    found = from_json(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if not isinstance(found, list | tuple):
        raise wrong(name, value, "a list", "write it as [...]")
    return found


def from_json(value: str) -> object:
    """What the JSON text says; None if the text is no JSON."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def parallel(row: Row, column: str, like: Sequence[object]) -> Sequence[Any]:
    """The values of a list column, one for each entry of ``like``; None for each if the column is missing or null."""
    if row.get(column) is None:
        return [None] * len(like)
    values = items(row[column], column)
    if len(values) != len(like):
        raise BadRow(f"{column} has {len(values)} values for {len(like)} completions; give one for each")
    return values


def label(value: object, name: str) -> bool:
    """True or False; also 1 and 0, because some tables have no booleans, and these words, because some have text."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _LABELS:
        return _LABELS[value.strip().lower()]
    raise wrong(name, value, "true or false", "give the outcome label as a boolean")


def maybe_label(value: object, name: str) -> bool | None:
    return None if value is None or is_nan(value) else label(value, name)


def whole(value: object) -> int | None:
    """The whole number in 3, 3.0, "3" or "3.0"; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return int(float(value)) if re.fullmatch(r"\s*-?\d{1,15}(\.0*)?\s*", str(value)) else None


def step_index(value: object, steps: int | None, name: str, first: int = 0) -> int | None:
    """The index of the first wrong step, -1 if no step is wrong; below ``steps`` if their number is given.

    The file counts its steps from ``first``.
    """
    if value is None or is_nan(value):
        return None
    number = whole(value)
    beyond = number is None or (steps is not None and number >= first + steps)
    if number is None or beyond or -1 != number < first:
        raise wrong(name, value, f"the index of one of {steps} steps or -1", f"count steps from {first}")
    return number if number == -1 else number - first


def step_labels(value: object, steps: int, name: str) -> tuple[float, ...] | None:
    """A number in [0, 1] for each of ``steps`` steps, nan for null."""
    numbers = _of_steps(value, steps, name)
    for i, number in enumerate(numbers or ()):
        if not (number is None or is_nan(number) or (isinstance(number, int | float) and 0 <= number <= 1)):
            raise wrong(f"{name}[{i}]", number, "a number in [0, 1]", "give the share of right or null")
    return None if numbers is None else tuple(math.nan if n is None else float(n) for n in numbers)


def error_kinds(value: object, steps: int, name: str) -> tuple[str, ...] | None:
    """The kind of error of each of ``steps`` steps; "" for none and for null."""
    kinds = _of_steps(value, steps, name)
    return None if kinds is None else tuple(maybe_text(k, f"{name}[{i}]") or "" for i, k in enumerate(kinds))


def _of_steps(value: object, steps: int, name: str) -> Sequence[Any] | None:
    """A list with one value for each step; None for null."""
    if value is None:
        return None
    values = items(value, name)
    if len(values) != steps:
        raise BadRow(f"{name} has {len(values)} values for {steps} steps; give one for each step, null where unknown")
    return values


def steps_of(value: object, response: str, name: str) -> tuple[str, ...]:
    """The steps as pieces that tile the response; white space between them may differ from the response's."""
    steps = strings(value, name)
    tiles = laid(steps, response)
    if tiles is None:
        found, expected = "".join("".join(steps).split()), "".join(response.split())
        at = next(i for i, (a, b) in enumerate(zip(found + "\0", expected + "\1", strict=False)) if a != b)
        raise BadRow(
            f"{name} do not join to the response: behind {found[max(at - 20, 0) : at]!r} the steps have "
            f"{found[at : at + 20]!r} and the response {expected[at : at + 20]!r}; give steps that join to the response"
        )
    return tiles


def tiled(value: object, separator: str, name: str) -> tuple[str, ...]:
    """The steps, each but the last with the separator; they join to the response.

    A step without text becomes "", so that the others keep their numbers; its separator goes to the step before.
    """
    steps = strings(value, name)
    if not any(step.strip() for step in steps):
        raise BadRow(f"{name} hold no text; give the response's steps or remove the row")
    if not all(step.strip() for step in steps):
        return steps_of(steps, separator.join(steps), name)
    return (*(step + separator for step in steps[:-1]), *steps[-1:])


def answer(value: object, name: str) -> str | None:
    """A final answer: text, a number as its text, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and not is_nan(value)
    return str(value) if number else maybe_text(value, name)


def gold(value: object, name: str) -> str | None:
    """The final answer in a gold answer, a whole solution or a list of answers; None if it is empty.

    Several answers of a list are joined by commas, as math-verify reads sets.
    """
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, (gold(v, f"{name}[{i}]") for i, v in enumerate(value)))) or None
    solution = answer(value, name) or None
    if solution is None or not ("\\boxed" in solution or "####" in solution):
        return solution
    final = reference_answer(solution)
    if final is None:
        raise wrong(name, solution[-40:], "a solution with its answer in \\boxed{...}", "complete it")
    return final


def level(value: object) -> int | None:
    """The number in 3, "3" or "Level 3"; None for "Level ?", as in two problems of MATH."""
    match = re.fullmatch(r"(?:Level )?(\d+|\?)(?:\.0)?|nan|", str("" if value is None else value))
    if match is None:
        raise wrong("level", value, 'a number or "Level 3"', "write the level as a number or null")
    return int(match[1]) if match[1] not in (None, "?") else None


def identity(row: Row, columns: Collection[str]) -> str:
    """The problem's id, from the first of the columns that the row has; empty if it has none."""
    value = next((row[c] for c in columns if c in row), None)
    return "" if value is None or is_nan(value) else string(str(value), "id")
