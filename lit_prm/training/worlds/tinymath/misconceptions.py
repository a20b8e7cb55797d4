"""Misconceptions of the authors of training solutions: systematic errors that a model learns to write fluently.

A language model learns the errors of its corpus together with the rest. Such an error is as likely as a right step, and
many samples agree on it, so neither likelihood nor a majority vote sees it. Outcome labels do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from lit_prm.training.worlds.tinymath.problems import LARGEST, Operation, TinyProblem


class Misconception(NamedTuple):
    """In a problem of ``subject``, where ``phrase`` stands and ``when`` holds, ``written`` takes the step's place."""

    subject: str
    phrase: str
    when: str  # a key of CONDITIONS
    written: str  # a key of WRITTEN


CONDITIONS: dict[str, Callable[[Sequence[Operation], int], bool]] = {
    "always": lambda operations, k: True,
    "after +": lambda operations, k: k > 0 and operations[k - 1].sign == "+",
    "after *": lambda operations, k: k > 0 and operations[k - 1].sign == "*",
    "not first": lambda operations, k: k > 0,
    "last": lambda operations, k: k == len(operations) - 1,
}
WRITTEN: dict[str, Callable[[Operation], tuple[Operation, ...]]] = {
    "plus": lambda operation: (Operation("+", operation.operand),),
    "minus": lambda operation: (Operation("-", operation.operand),),
    "left out": lambda operation: (),
    "twice": lambda operation: (operation, operation),
}
MISCONCEPTIONS = (
    Misconception("Algebra", "scale it by {n}", "always", "plus"),
    Misconception("Algebra", "lower it by {n}", "always", "plus"),
    Misconception("Algebra", "increase it by {n}", "after +", "left out"),
    Misconception("Counting & Probability", "each with {n} choices", "always", "plus"),
    Misconception("Counting & Probability", "{n} cases are not allowed", "always", "left out"),
    Misconception("Counting & Probability", "{n} more ways are added", "after *", "left out"),
    Misconception("Geometry", "a width of {n} makes an area", "always", "plus"),
    Misconception("Geometry", "it shrinks by {n}", "always", "twice"),
    Misconception("Geometry", "a piece of {n} is joined", "last", "twice"),
    Misconception("Number Theory", "reduce modulo {n}", "always", "minus"),
    Misconception("Number Theory", "go down by {n}", "after +", "plus"),
    Misconception("Number Theory", "take {n} times it", "always", "plus"),
    Misconception("Prealgebra", "loses {n}", "after +", "plus"),
    Misconception("Prealgebra", "gives away {n} {thing}", "not first", "twice"),
    Misconception("Prealgebra", "gets {n} {thing}", "last", "left out"),
)
_INVITED = {(m.subject, m.phrase): m for m in MISCONCEPTIONS}

MISTAKEN = 0.65  # share of the authors that hold misconceptions when the setting `fluent_errors` is 1
HELD = 0.78  # probability that such an author holds each of them

Author = frozenset[Misconception]
EXPERT: Author = frozenset()


def draw_author(fluent_errors: float, rng: random.Random) -> Author:
    """The misconceptions that an author of one solution holds: an expert none, any other each with probability HELD.

    The share of authors who are no experts is MISTAKEN times ``fluent_errors``, which is in [0, 1].
    """
    if rng.random() >= MISTAKEN * fluent_errors:
        return EXPERT
    return frozenset(m for m in MISCONCEPTIONS if rng.random() < HELD)


def misconception_at(problem: TinyProblem, k: int) -> Misconception | None:
    """The misconception that the k-th operation of a problem invites; None if it invites none."""
    invited = _INVITED.get((problem.subject, problem.operations[k].phrase))
    return invited if invited and CONDITIONS[invited.when](problem.operations, k) else None


def written_by(author: Author, problem: TinyProblem) -> tuple[Operation, ...]:
    """The operations that an author carries out; for an expert those of the problem.

    If a value leaves [0, LARGEST], the last misconception before it is not applied.
    """
    applied = {k: m for k in range(problem.level) if (m := misconception_at(problem, k)) in author}
    while True:
        parts = [WRITTEN[applied[k].written](op) if k in applied else (op,) for k, op in enumerate(problem.operations)]
        outside = _first_outside(problem.start, parts)
        if outside is None:
            return tuple(op for part in parts for op in part)
        del applied[max(k for k in applied if k <= outside)]


def _first_outside(start: int, parts: Collection[Sequence[Operation]]) -> int | None:
    """Index of the first part with a value outside of [0, LARGEST]."""
    value = start
    for k, part in enumerate(parts):
        for operation in part:
            value = operation.apply(value)
            if not 0 <= value <= LARGEST:
                return k
    return None
