"""Exact judgement of every line of a response: the first wrong step is known without a model."""

from __future__ import annotations

import re

from lit_prm.data.steps import Newline
from lit_prm.training.worlds.tinymath.problems import TinyProblem
from lit_prm.training.worlds.tinymath.solutions import WORDS

_SIGNS = {**{word: sign for sign, word in WORDS.items()}, **{sign: sign for sign in WORDS}}
_EQUATION = re.compile(r"(\d+) (\+|-|\*|mod|plus|minus|times|modulo) (\d+) (?:=|is) (\d+)")
_FINAL = re.compile(r"\\boxed\{(\d+)\}")

Equation = tuple[int, str, int, int]


def first_error(problem: TinyProblem, response: str) -> int:
    """Index of the first wrong line of ``response``, -1 when every line is right and the answer is given.

    A line without digits says nothing that could be wrong. Any other line must be exactly the next
    equations of the canonical solution (operands of + and * in either order), or, after the last of
    them, the boxed answer. A response that ends without its answer errs in its last line.
    """
    due = list(problem.equations)
    lines = Newline().split(response)
    for i, line in enumerate(lines):
        if not re.search(r"\d", line):
            continue
        boxed = _FINAL.findall(line)
        if boxed:
            return -1 if not due and boxed == [problem.answer] and i == len(lines) - 1 else i
        said = [_parse(match) for match in _EQUATION.findall(line)]
        if not said or len(re.findall(r"\d+", line)) != 3 * len(said) or len(said) > len(due):
            return i
        if any(not _same(s, d) for s, d in zip(said, due, strict=False)):
            return i
        del due[: len(said)]
    return max(len(lines) - 1, 0)  # an empty response errs at its start


def _parse(match: tuple[str, str, str, str]) -> Equation:
    left, sign, right, result = match
    return int(left), _SIGNS[sign], int(right), int(result)


def _same(said: Equation, due: Equation) -> bool:
    left, sign, right, result = said
    return said == due or (sign in "+*" and (right, sign, left, result) == due)
