"""Checks every line of a response exactly, so that the first wrong step and its kind are known without a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lit_prm.data.steps import Newline
from lit_prm.training.worlds.tinymath.misconceptions import WRITTEN, misconception_at
from lit_prm.training.worlds.tinymath.problems import Equation, Operation, TinyProblem
from lit_prm.training.worlds.tinymath.solutions import WORDS

RIGHT, MISCONCEPTION, SLIP = "", "misconception", "slip"

_SIGNS = {**{word: sign for sign, word in WORDS.items()}, **{sign: sign for sign in WORDS}}
_EQUATION = re.compile(r"(\d+) (\+|-|\*|mod|plus|minus|times|modulo) (\d+) (?:=|is) (\d+)")
_FINAL = re.compile(r"\\boxed\{(\d+)\}")


def first_error(problem: TinyProblem, response: str) -> int:
    """Index of the first wrong line of ``response``, from 0; -1 if every line is right and the answer is given."""
    return first_of(error_kinds(problem, response))


def first_of(kinds: tuple[str, ...]) -> int:
    """Index of the first error among the kinds of all lines; -1 for none, 0 for an empty response."""
    return next((i for i, kind in enumerate(kinds) if kind), -1 if kinds else 0)


def error_kinds(problem: TinyProblem, response: str) -> tuple[str, ...]:
    """The error in each line of ``response``: RIGHT (none), MISCONCEPTION or SLIP.

    A line without digits is right. Any other line must consist of the next equations of the solution, with the operands
    of + and * in either order, or, after the last equation, of the boxed answer. After an error, a line is right if it
    calculates on correctly from the value reached. An error is a misconception if an author who holds it would write
    that line there, also where the value leaves the range; otherwise it is a slip. Of two readings the one with the
    earlier operation counts, so that after a step left out another line may look like a slip. If a response ends
    without an answer, its last line is a slip.
    """
    reader = _Reader(problem)
    lines = Newline().split(response)
    kinds = [reader.kind_of(line, last=i == len(lines) - 1) for i, line in enumerate(lines)]
    if lines and not reader.answered and not kinds[-1]:
        kinds[-1] = SLIP
    return tuple(kinds)


class _Explained(NamedTuple):
    """What an equation may be: its operation, the error in it, and the number of the operation due after it."""

    operation: Operation
    kind: str
    due: int


class _Reader:
    """Follows a response: the value reached and the number of the operation that is due."""

    def __init__(self, problem: TinyProblem) -> None:
        self.problem = problem
        self.value = problem.start
        self.due = 0
        self.again = False  # whether the operation before may be written a second time
        self.answered = False

    def kind_of(self, line: str, last: bool) -> str:
        """The first error in a line; moves on past it."""
        if not re.search(r"\d", line):
            return RIGHT
        if boxed := _FINAL.findall(line):
            self.answered = True
            return self._final(boxed) if last else SLIP
        equations = [(int(a), _SIGNS[sign], int(b), int(c)) for a, sign, b, c in _EQUATION.findall(line)]
        kinds = [self._equation(equation) for equation in equations]
        if not equations or len(re.findall(r"\d+", line)) != 3 * len(equations):
            return SLIP
        return next((kind for kind in kinds if kind), RIGHT)

    def _final(self, boxed: list[str]) -> str:
        if boxed != [str(self.value)]:
            return SLIP
        if self.due == self.problem.level:
            return RIGHT
        left_out = all(self._written(k) == () for k in range(self.due, self.problem.level))
        return MISCONCEPTION if left_out else SLIP

    def _equation(self, equation: Equation) -> str:
        for operation, kind, due in self._explanations():
            if _same(equation, (self.value, operation.sign, operation.operand, operation.apply(self.value))):
                self.again = due == self.due + 1 and not kind and self._written(self.due) == (operation, operation)
                self.value, self.due = equation[3], due
                return kind
        self.again = False
        self.value, self.due = equation[3], self._after_slip(equation)
        return SLIP

    def _explanations(self) -> Iterator[_Explained]:
        """The next operation first, then what misconceptions write in its place or after leaving operations out."""
        for k in range(self.due, self.problem.level):
            kind = RIGHT if k == self.due else MISCONCEPTION
            yield _Explained(self.problem.operations[k], kind, k + 1)
            written = self._written(k)
            if written is not None and len(written) == 1:
                yield _Explained(written[0], MISCONCEPTION, k + 1)
            if written != ():
                break
        if self.again:
            yield _Explained(self.problem.operations[self.due - 1], MISCONCEPTION, self.due)

    def _written(self, k: int) -> tuple[Operation, ...] | None:
        """What the misconception at the k-th operation writes; None if it invites none."""
        misconception = misconception_at(self.problem, k)
        return WRITTEN[misconception.written](self.problem.operations[k]) if misconception else None

    def _after_slip(self, equation: Equation) -> int:
        """The operation due after a slip: the one after the next with the written sign and operand, if there is one."""
        written = (equation[1], equation[2])
        operations = self.problem.operations
        same = (k for k in range(self.due, len(operations)) if (operations[k].sign, operations[k].operand) == written)
        return min(next(same, self.due) + 1, len(operations))


def _same(written: Equation, due: Equation) -> bool:
    left, sign, right, result = written
    return written == due or (sign in "+*" and (right, sign, left, result) == due)
