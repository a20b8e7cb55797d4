"""Procedural problems with MATH's fields: five subjects, levels 1-5, each a chain of `level` small operations."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

SUBJECTS = ("Algebra", "Counting & Probability", "Geometry", "Number Theory", "Prealgebra")
LARGEST = 60  # every intermediate value lies in [0, LARGEST], so that each is one token
LARGEST_OPERAND = 9  # of + and -, and the largest start value


@dataclass(frozen=True, slots=True)
class Operation:
    """value -> value (sign) operand; the sign is one of + - * mod. ``phrase`` is the problem's wording of it."""

    sign: str
    operand: int
    phrase: str = ""

    def apply(self, value: int) -> int:
        """The value after this operation."""
        results = {"+": value + self.operand, "-": value - self.operand, "*": value * self.operand}
        return results[self.sign] if self.sign in results else value % self.operand


Equation = tuple[int, str, int, int]  # left, sign, right, result


@dataclass(frozen=True, slots=True)
class TinyProblem:
    """A start value and operations in order, which determine equations and answer."""

    text: str
    subject: str
    start: int
    operations: tuple[Operation, ...]

    @property
    def level(self) -> int:
        """Number of operations."""
        return len(self.operations)

    @property
    def equations(self) -> list[Equation]:
        """Every step of the canonical solution."""
        return equations(self.start, self.operations)

    @property
    def answer(self) -> str:
        """The last result."""
        return str(self.equations[-1][3])


def equations(start: int, operations: Iterable[Operation]) -> list[Equation]:
    """The chain of operations from a start value."""
    out, value = [], start
    for op in operations:
        out.append((value, op.sign, op.operand, op.apply(value)))
        value = out[-1][3]
    return out


def make_problem(rng: random.Random) -> TinyProblem:
    """A random problem; subject and level are uniform.

    Neighbours differ in sign or operand, so that a solution shows which operation an author left out or repeated.
    """
    subject = rng.choice(SUBJECTS)
    level = rng.randint(1, 5)
    start = value = rng.randint(2, LARGEST_OPERAND)
    operations: list[Operation] = []
    while len(operations) < level:
        operation = _draw(rng, subject, value)
        if operations and (operation.sign, operation.operand) == (operations[-1].sign, operations[-1].operand):
            continue
        operations.append(operation)
        value = operation.apply(value)
    return TinyProblem(_word(rng, subject, start, operations), subject, start, tuple(operations))


def _draw(rng: random.Random, subject: str, value: int) -> Operation:
    sign, operand = _draw_sum(rng, list(_WORDS[subject].phrases), value)
    phrases = _WORDS[subject].phrases[sign]
    return Operation(sign, operand, rng.choices(list(phrases), list(phrases.values()))[0])


def _draw_sum(rng: random.Random, signs: list[str], value: int) -> tuple[str, int]:
    """A sign and an operand whose result is in [0, LARGEST]; the sign is one of ``signs``, else + or -."""
    sign = rng.choice(signs)
    if sign == "*" and 2 <= value <= 12:
        return "*", rng.randint(2, min(9, LARGEST // value))
    if sign == "mod" and value > 9:
        return "mod", rng.randint(3, 9)
    if sign == "-" and value > 1:
        return "-", rng.randint(1, min(value, LARGEST_OPERAND))
    if value < LARGEST - LARGEST_OPERAND:
        return "+", rng.randint(1, LARGEST_OPERAND)
    return "-", rng.randint(1, LARGEST_OPERAND)


def _word(rng: random.Random, subject: str, start: int, operations: list[Operation]) -> str:
    wording = _WORDS[subject]
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    parts = [rng.choice(wording.openings).format(n=start, name=name, thing=thing)]
    parts += [op.phrase.format(n=op.operand, name=name, thing=thing) for op in operations]
    return ", ".join(parts) + ". " + rng.choice(wording.questions).format(name=name, thing=thing)


NAMES = ("Ana", "Ben", "Cleo", "Dev", "Emma", "Finn")
THINGS = ("coins", "books", "shells", "stamps", "pens", "cards")


class Wording(NamedTuple):
    """How a subject's problems are worded: ``phrases`` holds, for each sign, its phrases with their weights."""

    openings: tuple[str, ...]
    phrases: dict[str, dict[str, int]]
    questions: tuple[str, ...]


# Of two phrases for one operation, the one that authors misunderstand (`misconceptions.py`) is twice as common.
_WORDS = {
    "Algebra": Wording(
        ("Let x be {n}", "Start from x = {n}"),
        {
            "+": {"add {n}": 1, "increase it by {n}": 2},
            "-": {"subtract {n}": 1, "lower it by {n}": 2},
            "*": {"multiply by {n}": 1, "scale it by {n}": 2},
        },
        ("What is the value?", "Find the result."),
    ),
    "Counting & Probability": Wording(
        ("A menu has {n} meals", "There are {n} ways to begin"),
        {
            "+": {"{n} more ways are added": 2, "add {n} cases": 1},
            "-": {"{n} cases are not allowed": 2, "drop {n} cases": 1},
            "*": {"each with {n} choices": 2, "each splits into {n} ways": 1},
        },
        ("How many ways are there?", "Count the ways."),
    ),
    "Geometry": Wording(
        ("A side is {n} long", "A segment has length {n}"),
        {
            "+": {"a piece of {n} is joined": 2, "it grows by {n}": 1},
            "-": {"a piece of {n} is cut off": 1, "it shrinks by {n}": 2},
            "*": {"it is stretched {n} times": 1, "a width of {n} makes an area": 2},
        },
        ("What is the measure?", "Find the size."),
    ),
    "Number Theory": Wording(
        ("Take the number {n}", "Begin with {n}"),
        {
            "+": {"add {n}": 1, "go up by {n}": 1},
            "-": {"go down by {n}": 2, "subtract {n}": 1},
            "*": {"multiply by {n}": 1, "take {n} times it": 2},
            "mod": {"reduce modulo {n}": 2, "keep the remainder by {n}": 1},
        },
        ("What is left?", "Find the number."),
    ),
    "Prealgebra": Wording(
        ("{name} has {n} {thing}", "{name} starts with {n} {thing}"),
        {"+": {"finds {n} more": 1, "gets {n} {thing}": 2}, "-": {"loses {n}": 1, "gives away {n} {thing}": 1}},
        ("How many {thing} does {name} have?", "How many are left?"),
    ),
}
