"""Checks every line of a response exactly, so that the first wrong step is known without a model."""

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
    """Index of the first wrong line of ``response`` from 0; -1 if every line is right and the answer is given.

    A line without digits is right. Any other line must consist of the next equations of the canonical solution
    (operands of + and * in either order) or, after the last equation, of the boxed answer. If a response ends
    without the answer, its last line is the wrong one.
    """
    due = list(problem.equations)
    lines = Newline().split(response)
    for i, line in enumerate(lines):
        if not re.search(r"\d", line):
            continue
        boxed = _FINAL.findall(line)
        if boxed:
            return -1 if not due and boxed == [problem.answer] and i == len(lines) - 1 else i
        written = [_parse(match) for match in _EQUATION.findall(line)]
        if not written or len(re.findall(r"\d+", line)) != 3 * len(written) or len(written) > len(due):
            return i
        if any(not _same(w, d) for w, d in zip(written, due, strict=False)):
            return i
        del due[: len(written)]
    return max(len(lines) - 1, 0)  # an empty response: index 0


def _parse(match: tuple[str, str, str, str]) -> Equation:
    left, sign, right, result = match
    return int(left), _SIGNS[sign], int(right), int(result)


def _same(written: Equation, due: Equation) -> bool:
    left, sign, right, result = written
    return written == due or (sign in "+*" and (right, sign, left, result) == due)
