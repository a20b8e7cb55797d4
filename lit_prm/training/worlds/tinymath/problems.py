"""Procedural problems with MATH's fields: five subjects, levels 1-5, each a chain of `level` small operations."""

from __future__ import annotations

import random
from dataclasses import dataclass

SUBJECTS = ("Algebra", "Counting & Probability", "Geometry", "Number Theory", "Prealgebra")
LARGEST = 120  # every intermediate value lies in [0, LARGEST], so that each is one token


@dataclass(frozen=True, slots=True)
class Operation:
    """value -> value (sign) operand; the sign is one of + - * mod."""

    sign: str
    operand: int

    def apply(self, value: int) -> int:
        """The value after this operation."""
        results = {"+": value + self.operand, "-": value - self.operand, "*": value * self.operand}
        return results[self.sign] if self.sign in results else value % self.operand


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
    def equations(self) -> list[tuple[int, str, int, int]]:
        """(left, sign, right, result) of every step of the canonical solution."""
        out, value = [], self.start
        for op in self.operations:
            out.append((value, op.sign, op.operand, op.apply(value)))
            value = out[-1][3]
        return out

    @property
    def answer(self) -> str:
        """The last result."""
        return str(self.equations[-1][3])


def make_problem(rng: random.Random) -> TinyProblem:
    """A random problem; subject and level are uniform."""
    subject = rng.choice(SUBJECTS)
    level = rng.randint(1, 5)
    start = rng.randint(2, 12)
    operations: list[Operation] = []
    value = start
    for _ in range(level):
        operation = _draw(rng, _SIGNS[subject], value)
        operations.append(operation)
        value = operation.apply(value)
    text = _word(rng, subject, start, operations)
    return TinyProblem(text, subject, start, tuple(operations))


_SIGNS = {
    "Algebra": "+-*",
    "Counting & Probability": "+*",
    "Geometry": "+-*",
    "Number Theory": "+*m",
    "Prealgebra": "+-",
}


def _draw(rng: random.Random, signs: str, value: int) -> Operation:
    """An operation whose result is in [0, LARGEST], with one of ``signs``, else + or -."""
    sign = rng.choice(signs)
    if sign == "*" and 2 <= value <= 12:
        return Operation("*", rng.randint(2, min(9, LARGEST // value)))
    if sign == "m" and value > 9:
        return Operation("mod", rng.randint(3, 9))
    if sign == "-" and value > 1:
        return Operation("-", rng.randint(1, min(value, 12)))
    if value < LARGEST - 12:
        return Operation("+", rng.randint(1, 12))
    return Operation("-", rng.randint(1, 12))


def _word(rng: random.Random, subject: str, start: int, operations: list[Operation]) -> str:
    opening, phrases, question = _WORDS[subject]
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    parts = [rng.choice(opening).format(n=start, name=name, thing=thing)]
    parts += [rng.choice(phrases[op.sign]).format(n=op.operand, name=name, thing=thing) for op in operations]
    return ", ".join(parts) + ". " + rng.choice(question).format(name=name, thing=thing)


NAMES = ("Ana", "Ben", "Cleo", "Dev", "Emma", "Finn")
THINGS = ("coins", "books", "shells", "stamps", "pens", "cards")
_WORDS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]], tuple[str, ...]]] = {
    "Algebra": (
        ("Let x be {n}", "Start from x = {n}"),
        {
            "+": ("add {n}", "increase it by {n}"),
            "-": ("subtract {n}", "lower it by {n}"),
            "*": ("multiply by {n}", "scale it by {n}"),
        },
        ("What is the value?", "Find the result."),
    ),
    "Counting & Probability": (
        ("A menu has {n} meals", "There are {n} ways to begin"),
        {
            "+": ("{n} more ways are added", "add {n} cases"),
            "-": ("{n} cases are not allowed", "drop {n} cases"),
            "*": ("each with {n} choices", "each splits into {n} ways"),
        },
        ("How many ways are there?", "Count the ways."),
    ),
    "Geometry": (
        ("A side is {n} long", "A segment has length {n}"),
        {
            "+": ("a piece of {n} is joined", "it grows by {n}"),
            "-": ("a piece of {n} is cut off", "it shrinks by {n}"),
            "*": ("it is stretched {n} times", "a width of {n} makes an area"),
        },
        ("What is the measure?", "Find the size."),
    ),
    "Number Theory": (
        ("Take the number {n}", "Begin with {n}"),
        {
            "+": ("add {n}", "go up by {n}"),
            "-": ("go down by {n}", "subtract {n}"),
            "*": ("multiply by {n}", "take {n} times it"),
            "mod": ("reduce modulo {n}", "keep the remainder by {n}"),
        },
        ("What is left?", "Find the number."),
    ),
    "Prealgebra": (
        ("{name} has {n} {thing}", "{name} starts with {n} {thing}"),
        {"+": ("finds {n} more", "gets {n} {thing}"), "-": ("loses {n}", "gives away {n} {thing}")},
        ("How many {thing} does {name} have?", "How many are left?"),
    ),
}
