"""Checked values of a row: text, label, prompt, messages, answer, level, id. Each function raises ``BadRow``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lit_prm.answers import extract_answer
from lit_prm.data.records import Message, Problem

Row = Mapping[str, Any]

_HALF = re.compile("[\ud800-\udfff]")  # half of a surrogate pair, as a cut "\ud83d\ude00" leaves in JSON


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


def text(value: object, name: str) -> str:
    """A string that is not blank."""
    if not isinstance(value, str):
        raise wrong(name, value, "a string", "write it as text")
    if not value.strip():
        raise BadRow(f"{name} is empty; leave it out")
    return _valid_unicode(value, name)


def _valid_unicode(value: str, name: str) -> str:
    """The text, if it is valid Unicode; tokenizers and files cannot take half a surrogate pair."""
    if not value.isascii() and (half := _HALF.search(value)):
        at = half.start()
        raise BadRow(
            f"{name} has half a character {half.group()!r} at {at}, behind {value[max(at - 20, 0) : at]!r}, which is "
            "no Unicode; write the text again from its source or remove the row"
        )
    return value


def texts(value: object, name: str) -> list[str]:
    """A list of strings that are not blank."""
    return [text(item, f"{name}[{i}]") for i, item in enumerate(items(value, name))]


def sampled(value: object, correct: bool | None, name: str) -> str:
    """A response. It may be empty unless it is labelled right: a model may stop at once, but that is never right."""
    return "" if value == "" and not correct else text(value, name)


def maybe_text(value: object, name: str) -> str | None:
    """A string or None."""
    if value is not None and not isinstance(value, str):
        raise wrong(name, value, "a string", "write it as text or null")
    return None if value is None else _valid_unicode(value, name)


def items(value: object, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise wrong(name, value, "a list", "write it as [...]")
    return value


def parallel(row: Row, column: str, like: Sequence[object]) -> Sequence[Any]:
    """The values of a list column, one for each entry of ``like``; None for each if the column is missing or null.

    A longer list is cut, as the paper's own loader does. A shorter list is an error.
    """
    if row.get(column) is None:
        return [None] * len(like)
    values = items(row[column], column)
    if len(values) < len(like):
        raise BadRow(f"{column} has {len(values)} values for {len(like)} completions; give one for each")
    return values[: len(like)]


def label(value: object, name: str) -> bool:
    """True or False; 1 and 0 are accepted, because some tables have no booleans."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise wrong(name, value, "true or false", "give the outcome label as a boolean")


def maybe_label(value: object, name: str) -> bool | None:
    return None if value is None else label(value, name)


def step_index(value: object, steps: int | None, name: str) -> int | None:
    """The index of the first wrong step, -1 if no step is wrong; below ``steps`` if their number is given."""
    if value is None:
        return None
    if type(value) is not int or not -1 <= value < (value + 1 if steps is None else steps):
        raise wrong(name, value, f"the index of one of {steps} steps or -1", "count steps from 0")
    return value


def step_labels(value: object, steps: int, name: str) -> tuple[float, ...] | None:
    """A number in [0, 1] for each of ``steps`` steps, nan for null."""
    numbers = _of_steps(value, steps, name)
    for i, number in enumerate(numbers or ()):
        if number is not None and not (isinstance(number, int | float) and 0 <= number <= 1):
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


def messages(value: object, name: str) -> tuple[Message, ...]:
    """Chat messages, each with a role and a text."""
    return tuple(_message(item, f"{name}[{i}]") for i, item in enumerate(items(value, name)))


def _message(value: object, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise wrong(name, value, "a chat message", 'write it as {"role": ..., "content": ...}')
    role = text(value.get("role"), f"{name}.role")
    content = maybe_text(value.get("content"), f"{name}.content")
    return {"role": role, "content": content or ""}  # an empty system message is common and harmless


def prompt(value: object, name: str = "prompt") -> str | tuple[Message, ...]:
    """A prompt: text, or the messages of a conversation so far."""
    if isinstance(value, str):
        return text(value, name)
    turns = messages(value, name)
    if not any(m["content"].strip() for m in turns):
        raise BadRow(f"{name} has no content; give at least one message with content")
    return turns


def tiled(steps: Sequence[str], separator: str) -> tuple[str, ...]:
    """The steps, each but the last with the separator, so that they concatenate to the response."""
    return (*(step + separator for step in steps[:-1]), *steps[-1:])


def reply(value: object, question: str | tuple[Message, ...], name: str, correct: bool | None = True) -> str:
    """The response in a completion, which is text or messages; the messages may repeat the prompt first."""
    if isinstance(value, str):
        return sampled(value, correct, name)
    turns = messages(value, name)
    before = ({"role": "user", "content": question},) if isinstance(question, str) else question
    rest = turns[len(before) :] if turns[: len(before)] == before else turns
    if len(rest) != 1 or rest[0]["role"] != "assistant":
        raise BadRow(
            f"{name} has messages of {[m['role'] for m in rest]} after the prompt, "
            "not of one assistant; put earlier turns into the prompt"
        )
    return sampled(rest[0]["content"], correct, name)


def gold(value: object, name: str) -> str | None:
    """The final answer in a gold answer or a whole solution; None if it is empty, as in two rows of MATH."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    solution = maybe_text(value, name) or None
    if solution is None or not ("\\boxed" in solution or "####" in solution):
        return solution
    answer = extract_answer(solution)
    if answer is None:
        raise wrong(name, solution[-40:], "a solution with its answer in \\boxed{...}", "complete it")
    return answer


def level(value: object) -> int | None:
    """The number in 3, "3" or "Level 3"; None for "Level ?", as in two problems of MATH."""
    match = re.fullmatch(r"(?:Level )?(\d+|\?)(?:\.0)?|", str("" if value is None else value))
    if match is None:
        raise wrong("level", value, 'a number or "Level 3"', "write the level as a number or null")
    return int(match[1]) if match[1] not in (None, "?") else None


def identity(row: Row) -> str:
    """The problem's id in the row; empty if the row has none."""
    value = row.get("unique_id", row.get("id"))
    return "" if value is None else _valid_unicode(str(value), "id")


def problem(row: Row, question: str | tuple[Message, ...], answer: str | None, subject: str = "subject") -> Problem:
    """The problem of a row, from its prompt and answer and the columns id, subject and level."""
    return Problem(
        prompt=question,
        id=identity(row),
        answer=answer,
        subject=maybe_text(row.get(subject), subject),
        level=level(row.get("level")),
    )
