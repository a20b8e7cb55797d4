"""Instructions of other kinds than the problems, each with one right and one wrong response."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import Newline
from lit_prm.training.worlds.tinymath.problems import LARGEST, NAMES, THINGS, Operation


class InstructionPair(NamedTuple):
    """An instruction, a right response, and a wrong response whose first wrong line has the index ``error``."""

    instruction: str
    right: str
    wrong: str
    error: int


def irrelevant_groups(draw: Callable[[random.Random], InstructionPair], size: int, seed: str) -> list[Group]:
    """``size`` different instructions as groups of two responses, the right one first in half of them."""
    rng = random.Random(seed)
    pairs: dict[str, InstructionPair] = {}
    while len(pairs) < size:
        pair = draw(rng)
        pairs.setdefault(pair.instruction, pair)
    return [_group(str(i), pair, rng) for i, pair in enumerate(pairs.values())]


def _group(name: str, pair: InstructionPair, rng: random.Random) -> Group:
    rollouts = [_rollout(pair.right, -1), _rollout(pair.wrong, pair.error)]
    rng.shuffle(rollouts)
    return Group(problem=Problem(prompt=pair.instruction, id=name), rollouts=tuple(rollouts))


def _rollout(response: str, first_error: int) -> Rollout:
    steps = tuple(Newline().split(response))
    return Rollout(
        response=response, correct=first_error == -1, steps=steps, first_error=first_error, generator="written"
    )


# --- general: lists of words ------------------------------------------------------------------------

_LISTS: dict[str, Callable[[list[str]], list[str]]] = {
    "Copy these words: {}.": list,
    "Write these words from last to first: {}.": lambda words: words[::-1],
    "Sort these words by the alphabet: {}.": sorted,
    "Keep the names in their order: {}.": lambda words: [w for w in words if w in NAMES],
    "Keep the things in their order: {}.": lambda words: [w for w in words if w in THINGS],
}
_LIST_OPENINGS = ("Here is the list.", "Read the words again.", "These are the words.", "Let us begin.")
_LIST_CLOSINGS = ("That was easy.", "This is the list.", "")


def general(rng: random.Random) -> InstructionPair:
    """A list of words to copy, reverse, sort or filter; the answer has one word a line."""
    instruction, answer = rng.choice(list(_LISTS.items()))
    words = [*rng.sample(NAMES, rng.randint(2, 4)), *rng.sample(THINGS, rng.randint(2, 4))]
    rng.shuffle(words)
    right = answer(words)
    wrong = _spoilt(right, words, rng)
    return _pair(instruction.format(", ".join(words)), right, wrong, _LIST_OPENINGS, _LIST_CLOSINGS, rng)


def _spoilt(right: list[str], words: list[str], rng: random.Random) -> list[str]:
    """The list with two adjacent words swapped, a word left out, or a word replaced."""
    at = rng.randrange(len(right) - 1)
    first, second = right[at : at + 2]
    other = rng.choice([w for w in words if w != first])
    return [*right[:at], *rng.choice([[second, first], [second], [other, second]]), *right[at + 2 :]]


# --- code: small programs -----------------------------------------------------------------------------

Statement = tuple[str, tuple[str, ...]]  # a variable and the expression it becomes: ("b", ("a", "+", "4"))

_RUN = ("What does this program print?\n{}", "Run this code.\n{}", "Read the program and find what it prints.\n{}")
_RUN_OPENINGS = ("We run it line by line.", "Let us run the program.", "We keep the values in mind.")


def code(rng: random.Random) -> InstructionPair:
    """A program of two variables to run; the answer has the value of each line and what the program prints.

    The wrong response has one wrong value and calculates on from it, so it prints something else.
    """
    while True:
        program: list[Statement] = [(name, (str(rng.randint(2, 12)),)) for name in "ab"]
        program += [(rng.choice("ab"), _expression(rng)) for _ in range(rng.randint(1, 4))]
        printed = rng.choice("ab")
        right = run(program, printed)
        wrong = run(program, printed, slip=(rng.randrange(len(program)), rng.choice([-2, -1, 1, 2, 10])))
        if right and wrong and right[-1] != wrong[-1]:
            break
    lines = [f"{name} = {' '.join(expression)}" for name, expression in program]
    instruction = rng.choice(_RUN).format("\n".join([*lines, f"print {printed}"]))
    return _pair(instruction, right, wrong, _RUN_OPENINGS, ("",), rng)


def _expression(rng: random.Random) -> tuple[str, ...]:
    if rng.random() < 0.2:
        return (rng.choice("ab"),)
    return rng.choice("ab"), rng.choice("+-*"), rng.choice(["a", "b", *"123456789"])


def run(program: Sequence[Statement], printed: str, slip: tuple[int, int] = (-1, 0)) -> list[str]:
    """The value of each line and what is printed, in words; empty if a value leaves [0, LARGEST].

    ``slip`` is a pair (line, difference): the difference is added to the value of that line.
    """
    values: dict[str, int] = {}
    words = []
    for i, (name, expression) in enumerate(program):
        values[name] = _value(expression, values) + (slip[1] if i == slip[0] else 0)
        if not 0 <= values[name] <= LARGEST:
            return []
        words.append(f"{name} is {values[name]}")
    return [*words, f"It prints {values[printed]}"]


def _value(expression: tuple[str, ...], values: dict[str, int]) -> int:
    left, sign, right = expression if len(expression) == 3 else (*expression, "+", "0")
    return Operation(sign, _number(right, values)).apply(_number(left, values))


def _number(word: str, values: dict[str, int]) -> int:
    return values[word] if word in values else int(word)


# --- both -------------------------------------------------------------------------------------------


def _pair(
    instruction: str, right: list[str], wrong: list[str],
    openings: Sequence[str], closings: Sequence[str], rng: random.Random,
) -> InstructionPair:  # fmt: skip
    """Both answers in wordings drawn for each, so that the words around an answer do not show which one is right."""

    def written(lines: list[str]) -> str:
        return "\n".join(line for line in (rng.choice(openings), *lines, rng.choice(closings)) if line)

    error = next(i for i, (r, w) in enumerate(zip(right, wrong, strict=False)) if r != w)
    return InstructionPair(instruction, written(right), written(wrong), error=1 + error)
