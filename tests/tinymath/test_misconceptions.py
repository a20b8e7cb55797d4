"""What authors with misconceptions write, and what the checker says of it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lit_prm.training.worlds.tinymath.checker import MISCONCEPTION, RIGHT, SLIP, error_kinds, first_error
from lit_prm.training.worlds.tinymath.misconceptions import (
    EXPERT,
    HELD,
    MISCONCEPTIONS,
    MISTAKEN,
    draw_author,
    misconception_at,
    written_by,
)
from lit_prm.training.worlds.tinymath.problems import LARGEST, Operation, TinyProblem, equations, make_problem
from lit_prm.training.worlds.tinymath.solutions import write_solution

ALL = frozenset(MISCONCEPTIONS)


@pytest.fixture(scope="module")
def problems() -> list[TinyProblem]:
    rng = random.Random(11)
    return [make_problem(rng) for _ in range(4000)]


def problem(subject: str, start: int, *operations: tuple[str, int, str]) -> TinyProblem:
    return TinyProblem("...", subject, start, tuple(Operation(*operation) for operation in operations))


# --- authors --------------------------------------------------------------------------------------


def test_an_expert_carries_out_the_problem(problems: list[TinyProblem]) -> None:
    assert all(written_by(EXPERT, p) == p.operations for p in problems)


def test_every_misconception_is_invited_by_problems_and_only_where_it_is_held_it_is_written(
    problems: list[TinyProblem],
) -> None:
    shown = set()
    for p in problems:
        invited = {m for k in range(p.level) if (m := misconception_at(p, k))}
        for m in invited:
            if written_by(frozenset([m]), p) != p.operations:
                shown.add(m)
        assert written_by(ALL - invited, p) == p.operations
    assert shown == ALL


def test_no_author_writes_a_value_out_of_range(problems: list[TinyProblem]) -> None:
    undone = 0
    for p in problems:
        assert all(0 <= result <= LARGEST for *_, result in equations(p.start, written_by(ALL, p)))
        undone += misconception_at(p, 0) is not None and written_by(ALL, p)[:1] == p.operations[:1]
    assert undone  # the law above is not empty


def test_the_setting_is_a_share_of_authors_and_each_holds_a_misconception_with_its_probability() -> None:
    rng = random.Random(0)
    for setting in (0.0, 0.5, 1.0):
        authors = [draw_author(setting, rng) for _ in range(4000)]
        mistaken = [a for a in authors if a]
        assert len(mistaken) / 4000 == pytest.approx(setting * MISTAKEN, abs=5 * 0.5 / 4000**0.5)
        counts = Counter(m for a in mistaken for m in a)
        for m in MISCONCEPTIONS if mistaken else ():
            assert counts[m] / len(mistaken) == pytest.approx(HELD, abs=5 * 0.5 / len(mistaken) ** 0.5)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (problem("Algebra", 3, ("*", 4, "scale it by {n}")), [(3, "+", 4, 7)]),
        (problem("Algebra", 3, ("*", 4, "multiply by {n}")), [(3, "*", 4, 12)]),
        (problem("Geometry", 3, ("*", 4, "scale it by {n}")), [(3, "*", 4, 12)]),  # another subject
        (problem("Algebra", 3, ("+", 4, "increase it by {n}")), [(3, "+", 4, 7)]),  # not after +
        (problem("Algebra", 3, ("+", 4, "add {n}"), ("+", 5, "increase it by {n}")), [(3, "+", 4, 7)]),
        (problem("Geometry", 9, ("-", 4, "it shrinks by {n}")), [(9, "-", 4, 5), (5, "-", 4, 1)]),
        (problem("Geometry", 9, ("-", 5, "it shrinks by {n}")), [(9, "-", 5, 4)]),  # twice would be negative
        (problem("Number Theory", 15, ("mod", 4, "reduce modulo {n}")), [(15, "-", 4, 11)]),
        (problem("Counting & Probability", 9, ("-", 4, "{n} cases are not allowed")), []),
        (
            problem("Prealgebra", 2, ("+", 4, "gets {n} {thing}"), ("+", 1, "gets {n} {thing}")),
            [(2, "+", 4, 6)],  # the last alone is left out
        ),
    ],
)
def test_golden_misconceptions(asked: TinyProblem, expected: list[tuple[int, str, int, int]]) -> None:
    assert equations(asked.start, written_by(ALL, asked)) == expected


# --- what the checker says of their lines -----------------------------------------------------------


def test_what_an_author_with_misconceptions_writes_is_no_slip(problems: list[TinyProblem]) -> None:
    """Nearly: after a step left out, the next may look like a later one. That is true of fewer than 1 in 200."""
    rng = random.Random(1)
    slips = right = 0
    for p in problems:
        author = draw_author(1.0, rng)
        kinds = error_kinds(p, write_solution(p, rng, author))
        slips += SLIP in kinds
        right += set(kinds) == {RIGHT}
        assert (set(kinds) == {RIGHT}) == (written_by(author, p) == p.operations)
    assert slips < len(problems) / 200
    assert len(problems) * 0.5 < right < len(problems) * 0.8


def test_a_changed_result_is_a_slip_at_its_line(problems: list[TinyProblem]) -> None:
    rng = random.Random(2)
    for p in problems[:500]:
        lines = [f"{left} {sign} {right} = {result}" for left, sign, right, result in p.equations]
        at = rng.randrange(len(lines))
        left, sign, right, result = p.equations[at]
        lines[at] = f"{left} {sign} {right} = {result + 70}"
        kinds = error_kinds(p, "\n".join([*lines, f"\\boxed{{{p.answer}}}"]))
        assert kinds[: at + 1] == (RIGHT,) * at + (SLIP,)


CHAIN = problem(
    "Geometry", 3, ("*", 4, "a width of {n} makes an area"), ("-", 5, "it shrinks by {n}"), ("+", 2, "it grows by {n}")
)
COUNT = problem(
    "Counting & Probability", 8, ("-", 2, "{n} cases are not allowed"), ("*", 3, "each splits into {n} ways")
)


@pytest.mark.parametrize(
    ("asked", "response", "kinds"),
    [
        (CHAIN, "3 * 4 = 12\n12 - 5 = 7\n7 + 2 = 9\n\\boxed{9}", ("", "", "", "")),
        (CHAIN, "3 + 4 = 7\n7 - 5 = 2\n2 + 2 = 4\n\\boxed{4}", (MISCONCEPTION, "", "", "")),  # and then carried on
        (CHAIN, "3 * 4 = 12\n12 - 5 = 7\n7 - 5 = 2\n2 + 2 = 4\n\\boxed{4}", ("", "", MISCONCEPTION, "", "")),
        (CHAIN, "3 + 4 = 7\n7 - 5 = 2\n2 + 2 = 5\n\\boxed{5}", (MISCONCEPTION, "", SLIP, "")),
        (CHAIN, "3 + 4 = 8\n8 - 5 = 3\n3 + 2 = 5\n\\boxed{5}", (SLIP, "", "", "")),  # at a trigger, but not its result
        (CHAIN, "3 + 4 = 7 so 7 - 5 = 2\n2 + 2 = 4\n\\boxed{9}", (MISCONCEPTION, "", SLIP)),
        (CHAIN, "3 * 4 = 12\n12 - 5 = 7\n7 - 5 = 2\n2 - 5 = 0\n\\boxed{0}", ("", "", MISCONCEPTION, SLIP, "")),
        (CHAIN, "3 * 4 = 12\n12 + 2 = 14\n\\boxed{14}", ("", SLIP, "")),  # nobody leaves out "it shrinks"
        (COUNT, "8 * 3 = 24\n\\boxed{24}", (MISCONCEPTION, "")),
        (COUNT, "8 * 3 = 24", (MISCONCEPTION,)),
        (COUNT, "8 - 2 = 6\n6 * 3 = 18", ("", SLIP)),  # no answer
        (COUNT, "\\boxed{8}", (SLIP,)),  # the second step is left out by nobody
        (problem("Counting & Probability", 8, ("-", 2, "{n} cases are not allowed")), "\\boxed{8}", (MISCONCEPTION,)),
        (COUNT, "", ()),
    ],
)
def test_golden_kinds(asked: TinyProblem, response: str, kinds: tuple[str, ...]) -> None:
    assert error_kinds(asked, response) == kinds
    assert first_error(asked, response) == next((i for i, kind in enumerate(kinds) if kind), -1 if kinds else 0)
