"""One value of a row, checked: text, label, prompt, messages, answer, level, id."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lit_prm.answers import extract_answer
from lit_prm.data.records import Message, Problem

Row = Mapping[str, Any]

_HALF = re.compile("[\ud800-\udfff]")  # half of a character: of a cut "\ud83d\ude00" in JSON


class BadRow(ValueError):
    """Why a row is no group, and the remedy; whoever knows the file adds the place."""


def wrong(name: str, value: object, rule: str, remedy: str) -> BadRow:
    """The usual refusal: a value, the rule it breaks, what to do."""
    return BadRow(f"{name} is {str(repr(value))[:60]}, not {rule}; {remedy}")


def needed(row: Row, column: str) -> Any:
    """The value of a column that must be there."""
    if row.get(column) is None:
        raise BadRow(f"column {column!r} is missing or null; the row has {sorted(row)}, fill it in or remove the row")
    return row[column]


def text(value: object, name: str) -> str:
    """A string with something in it."""
    if not isinstance(value, str):
        raise wrong(name, value, "a string", "write it as text")
    if not value.strip():
        raise BadRow(f"{name} is empty; leave it out")
    return _whole(value, name)


def _whole(value: str, name: str) -> str:
    """The text, when it can be encoded: no tokenizer and no file takes half a character."""
    if not value.isascii() and (half := _HALF.search(value)):
        at = half.start()
        raise BadRow(
            f"{name} has half a character {half.group()!r} at {at}, behind {value[max(at - 20, 0) : at]!r}, which is "
            "no Unicode; write the text again from its source or remove the row"
        )
    return value


def texts(value: object, name: str) -> list[str]:
    """A list of strings, each with something in it."""
    return [text(item, f"{name}[{i}]") for i, item in enumerate(items(value, name))]


def sampled(value: object, correct: bool | None, name: str) -> str:
    """A response; an empty one unless it is labelled right, since a model may end at once but never rightly."""
    return "" if value == "" and not correct else text(value, name)


def maybe_text(value: object, name: str) -> str | None:
    """A string or nothing."""
    if value is not None and not isinstance(value, str):
        raise wrong(name, value, "a string", "write it as text or null")
    return None if value is None else _whole(value, name)


def items(value: object, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise wrong(name, value, "a list", "write it as [...]")
    return value


def parallel(row: Row, column: str, like: Sequence[object]) -> Sequence[Any]:
    """The values that belong to ``like``, one each; nothing for each when the column is absent.

    A longer list is cut, as the paper's own loader does; a shorter one leaves responses without a value.
    """
    if row.get(column) is None:
        return [None] * len(like)
    values = items(row[column], column)
    if len(values) < len(like):
        raise BadRow(f"{column} has {len(values)} values for {len(like)} completions; give one for each")
    return values[: len(like)]


def label(value: object, name: str) -> bool:
    """True or False; 1 and 0 as tables without booleans write them."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise wrong(name, value, "true or false", "give the outcome label as a boolean")


def maybe_label(value: object, name: str) -> bool | None:
    return None if value is None else label(value, name)


def step_index(value: object, steps: int | None, name: str) -> int | None:
    """The index of the first wrong step, -1 for none wrong; below ``steps`` where their number is known."""
    if value is None:
        return None
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not -1 <= value < (value + 1 if steps is None else steps)
    ):
        raise wrong(name, value, f"the index of one of {steps} steps or -1", "count steps from 0")
    return value


def step_labels(value: object, steps: int, name: str) -> tuple[float, ...] | None:
    """A number in [0, 1] for each of ``steps`` steps, nan for null."""
    if value is None:
        return None
    given = items(value, name)
    if len(given) != steps:
        raise BadRow(f"{name} has {len(given)} labels for {steps} steps; give one for each step, null where unknown")
    for i, number in enumerate(given):
        if number is not None and not (isinstance(number, int | float) and 0 <= number <= 1):
            raise wrong(f"{name}[{i}]", number, "a number in [0, 1]", "give the share of right or null")
    return tuple(math.nan if number is None else float(number) for number in given)


def messages(value: object, name: str) -> tuple[Message, ...]:
    """Chat messages with a role and a text."""
    return tuple(_message(item, f"{name}[{i}]") for i, item in enumerate(items(value, name)))


def _message(value: object, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise wrong(name, value, "a chat message", 'write it as {"role": ..., "content": ...}')
    role = text(value.get("role"), f"{name}.role")
    content = maybe_text(value.get("content"), f"{name}.content")
    return {"role": role, "content": content or ""}  # an empty system message is common and harmless


def prompt(value: object, name: str = "prompt") -> str | tuple[Message, ...]:
    """Plain text or a conversation so far."""
    if isinstance(value, str):
        return text(value, name)
    said = messages(value, name)
    if not any(m["content"].strip() for m in said):
        raise BadRow(f"{name} says nothing; give at least one message with content")
    return said


def tiled(steps: Sequence[str], separator: str) -> tuple[str, ...]:
    """The steps with their separators, so that joining them is the response; the last stays as it is."""
    return (*(step + separator for step in steps[:-1]), *steps[-1:])


def reply(value: object, said: str | tuple[Message, ...], name: str, correct: bool | None = True) -> str:
    """The response of a completion given as text or as messages, which may repeat the prompt first."""
    if isinstance(value, str):
        return sampled(value, correct, name)
    heard = messages(value, name)
    before = ({"role": "user", "content": said},) if isinstance(said, str) else said
    rest = heard[len(before) :] if heard[: len(before)] == before else heard
    if len(rest) != 1 or rest[0]["role"] != "assistant":
        raise BadRow(
            f"{name} has messages of {[m['role'] for m in rest]} after the prompt, "
            "not of one assistant; put earlier turns into the prompt"
        )
    return sampled(rest[0]["content"], correct, name)


def gold(value: object, name: str) -> str | None:
    """The final answer of a gold answer or a whole solution; nothing of an empty one, as two rows of MATH have it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    said = maybe_text(value, name) or None
    if said is None or not ("\\boxed" in said or "####" in said):
        return said
    answer = extract_answer(said)
    if answer is None:
        raise wrong(name, said[-40:], "a solution with its answer in \\boxed{...}", "complete it")
    return answer


def level(value: object) -> int | None:
    """3 of 3, "3" or "Level 3"; nothing of "Level ?", as two problems of MATH have it."""
    found = re.fullmatch(r"(?:Level )?(\d+|\?)(?:\.0)?|", str("" if value is None else value))
    if found is None:
        raise wrong("level", value, 'a number or "Level 3"', "write the level as a number or null")
    return int(found[1]) if found[1] not in (None, "?") else None


def identity(row: Row) -> str:
    """The row's own name for its problem; empty when it gives none."""
    value = row.get("unique_id", row.get("id"))
    return "" if value is None else _whole(str(value), "id")


def problem(row: Row, said: str | tuple[Message, ...], answer: str | None, subject: str = "subject") -> Problem:
    """The problem of a row whose prompt and answer are known."""
    return Problem(
        prompt=said,
        id=identity(row),
        answer=answer,
        subject=maybe_text(row.get(subject), subject),
        level=level(row.get("level")),
    )
