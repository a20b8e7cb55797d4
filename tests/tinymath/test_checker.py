from __future__ import annotations

import random
import re

import pytest

from lit_prm.answers import extract_answer, is_correct
from lit_prm.data.steps import Newline
from lit_prm.training.worlds.tinymath.checker import first_error
from lit_prm.training.worlds.tinymath.problems import Operation, TinyProblem, make_problem
from lit_prm.training.worlds.tinymath.solutions import FILLERS, LEADS, OPENINGS, write_solution

CHAIN = TinyProblem("...", "Algebra", 3, (Operation("+", 4), Operation("*", 2), Operation("-", 5)))
RIGHT = "First 3 + 4 = 7\nThen 2 times 7 is 14\n14 - 5 = 9\nThe answer is \\boxed{9}"


def drawn(count: int, seed: int = 0) -> list[tuple[TinyProblem, str]]:
    rng = random.Random(seed)
    return [(p, write_solution(p, rng)) for p in (make_problem(rng) for _ in range(count))]


# --- laws -----------------------------------------------------------------------------------------


def test_every_written_solution_is_right_in_every_line_and_says_the_answer() -> None:
    for problem, solution in drawn(1000):
        assert first_error(problem, solution) == -1
        assert extract_answer(solution) == problem.answer


def test_every_changed_number_is_found_at_its_line() -> None:
    rng = random.Random(1)
    for problem, solution in drawn(300):
        for match in re.finditer(r"\d+", solution):
            other = rng.choice([n for n in range(121) if n != int(match.group())])
            changed = solution[: match.start()] + str(other) + solution[match.end() :]
            assert first_error(problem, changed) == solution[: match.start()].count("\n")


def test_a_response_right_in_every_line_is_graded_right() -> None:
    rng = random.Random(2)
    for problem, solution in drawn(100):
        for response in (solution, solution.replace("\n", "\n\n"), solution + "\n", _shuffled(solution, rng)):
            if first_error(problem, response) == -1:
                assert is_correct(response, problem.answer)


def _shuffled(solution: str, rng: random.Random) -> str:
    lines = solution.split("\n")
    rng.shuffle(lines)
    return "\n".join(lines)


# --- a slow, obvious reading ----------------------------------------------------------------------


def slow_first_error(problem: TinyProblem, response: str) -> int:
    """Reads word by word: a line's numbers must be the next equations', whatever words are between."""
    lines = response.split("\n")
    signs = {"+": "+", "plus": "+", "-": "-", "minus": "-", "*": "*", "times": "*", "mod": "mod", "modulo": "mod"}
    wanted = list(problem.equations)
    for i, line in enumerate(lines):
        words = line.replace("\\boxed{", " box ").replace("}", " ").split()
        numbers = [int(w) for w in words if w.isdigit()]
        if not numbers:
            continue
        if "box" in words:
            good = not wanted and numbers == [int(problem.answer)] and i == len(lines) - 1
            return -1 if good else i
        said = [signs[w] for w in words if w in signs]
        for sign in said:
            left, right, result = numbers[:3] if len(numbers) >= 3 else (-1, -1, -1)
            del numbers[:3]
            due = wanted.pop(0) if wanted else (-2, "", -2, -2)
            swapped = (due[2], due[1], due[0], due[3]) if due[1] in "+*" else due
            if (left, sign, right, result) not in (due, swapped):
                return i
        if numbers or not said:
            return i
    return max(len(lines) - 1, 0)


def test_it_reads_like_a_slow_reader_also_what_is_broken() -> None:
    rng = random.Random(3)
    kinds = set()
    for problem, solution in drawn(1500, seed=4):
        lines = solution.split("\n")
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        broken = rng.choice([
            lines[:a] + lines[a + 1 :], lines[: a + 1], [*lines[:a], lines[b], *lines[a:]], [*lines, lines[b]],
            [*lines[:a], lines[b], *lines[a + 1 :]],
        ])  # fmt: skip
        response = "\n".join(broken)
        assert first_error(problem, response) == slow_first_error(problem, response), response
        kinds.add(first_error(problem, response))
    assert kinds >= {-1, 0, 1, 2, 3}


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (RIGHT, -1),
        (RIGHT + "\n", -1),
        (RIGHT.replace("First 3 + 4", "4 plus 3"), -1),  # operands of + and * in either order
        (RIGHT.replace("14 - 5", "5 - 14"), 2),  # but not of -
        (RIGHT.replace("\nThen 2 times", " so 2 times"), -1),  # two equations in a line
        (RIGHT.replace("14 - 5 = 9\n", ""), 2),  # a step left out: the box comes too early
        (RIGHT.replace("First", "No trick here.\nFirst"), -1),
        (RIGHT.replace("\nThe answer is \\boxed{9}", ""), 2),  # no answer: the last line errs
        (RIGHT.replace("boxed{9}", "boxed{8}"), 3),
        (RIGHT + "\n1 + 1 = 2", 3),  # something after the answer
        (RIGHT.replace("3 + 4 = 7", "3 + 4 = 7 1"), 0),  # a number too many
        (RIGHT.replace("3 + 4 = 7", "3 + 4 = -7"), 0),
        (RIGHT.replace("3 + 4 = 7", "3 7"), 0),
        (RIGHT.replace("14 - 5 = 9", "14 - 5 = 9 so 9 - 5 = 4"), 2),  # an equation too many
        ("Let us begin.", 0),
        ("", 0),
    ],
)
def test_golden_readings(response: str, error: int) -> None:
    assert first_error(CHAIN, response) == error


# --- how solutions are written --------------------------------------------------------------------


def test_lines_tile_the_solution() -> None:
    for _, solution in drawn(200):
        steps = Newline().split(solution)
        assert "".join(steps) == solution
        assert len(steps) == solution.count("\n") + 1


def test_style_varies_and_what_is_computed_does_not() -> None:
    rng = random.Random(0)
    problem = next(p for p in iter(lambda: make_problem(rng), None) if p.level == 3)
    texts = {write_solution(problem, rng) for _ in range(300)}
    assert len(texts) > 270  # the writers of solutions talk little
    joined = "\n".join(texts)
    for piece in (*[lead for lead in LEADS if lead], *FILLERS, *OPENINGS, " is ", " = ", " so "):
        assert piece in joined
    assert len({text.count("\n") for text in texts}) > 4
