from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from lit_prm.training.worlds.tinymath import TinyMath
from lit_prm.training.worlds.tinymath.misconceptions import MISCONCEPTIONS
from lit_prm.training.worlds.tinymath.problems import LARGEST, SUBJECTS, TinyProblem, make_problem
from lit_prm.training.worlds.tinymath.solutions import write_problems

APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "mod": lambda a, b: a % b}


@pytest.fixture(scope="module")
def problems() -> list[TinyProblem]:
    rng = random.Random(5)
    return [make_problem(rng) for _ in range(3000)]


def test_every_value_is_in_range_and_follows_from_the_one_before(problems: list[TinyProblem]) -> None:
    for problem in problems:
        value = problem.start
        assert len(problem.equations) == problem.level == len(problem.operations)
        for left, sign, right, result in problem.equations:
            assert left == value
            assert result == APPLY[sign](left, right)
            assert 0 <= result <= LARGEST
            assert 0 < right <= LARGEST
            value = result
        assert problem.answer == str(value)


def test_neighbours_differ_in_sign_or_operand_so_that_a_step_left_out_shows(problems: list[TinyProblem]) -> None:
    for problem in problems:
        steps = [(op.sign, op.operand) for op in problem.operations]
        assert all(a != b for a, b in pairwise(steps))


def test_the_text_tells_the_numbers_in_order_and_nothing_else(problems: list[TinyProblem]) -> None:
    for problem in problems:
        told = [int(n) for n in re.findall(r"\d+", problem.text)]
        assert told == [problem.start, *(op.operand for op in problem.operations)]


def test_subjects_and_levels_are_about_uniform(problems: list[TinyProblem]) -> None:
    for counts, kinds in (
        (Counter(p.subject for p in problems), set(SUBJECTS)),
        (Counter(str(p.level) for p in problems), set("12345")),
    ):
        assert set(counts) == kinds
        assert list(counts.values()) == pytest.approx([600] * 5, abs=110)  # five standard deviations


def test_every_sign_occurs(problems: list[TinyProblem]) -> None:
    assert {op.sign for p in problems for op in p.operations} == set(APPLY)


def test_a_phrase_with_a_misconception_is_twice_as_common_as_its_clean_twin(problems: list[TinyProblem]) -> None:
    misread = {(m.subject, m.phrase) for m in MISCONCEPTIONS}
    counts = Counter((p.subject, op.sign, op.phrase) for p in problems for op in p.operations)
    for subject, sign in {(subject, sign) for subject, sign, _ in counts}:
        twins = {phrase: n for (s, o, phrase), n in counts.items() if (s, o) == (subject, sign)}
        misunderstood = [phrase for phrase in twins if (subject, phrase) in misread]
        assert len(twins) == 2
        if len(misunderstood) == 1:
            share = twins[misunderstood[0]] / sum(twins.values())
            assert share == pytest.approx(2 / 3, abs=5 * (2 / 9 / sum(twins.values())) ** 0.5)


def test_a_seed_decides_the_problem() -> None:
    assert make_problem(random.Random(3)) == make_problem(random.Random(3))
    assert make_problem(random.Random(3)) != make_problem(random.Random(4))


def test_no_text_occurs_twice_over_all_splits() -> None:
    splits = TinyMath(seed=1, train_problems=400, validation_problems=100, test_problems=100).problem_texts()
    texts = [p.text for split in splits.values() for p in split]
    assert [len(split) for split in splits.values()] == [400, 100, 100]
    assert len(set(texts)) == len(texts)


def test_a_smaller_training_split_is_the_head_of_a_larger_one() -> None:
    small, large = (TinyMath(train_problems=n).problem_texts()["train"] for n in (10, 20))
    assert large[:10] == small


def test_files_have_the_fields_of_math(tmp_path: Path, problems: list[TinyProblem]) -> None:
    write_problems(tmp_path / "p.jsonl", "test", problems[:20], random.Random(0))
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    for i, (row, problem) in enumerate(zip(rows, problems, strict=False)):
        assert list(row) == ["problem", "solution", "answer", "subject", "level", "unique_id"]
        assert (row["problem"], row["answer"], row["subject"], row["level"], row["unique_id"]) == (
            problem.text, problem.answer, problem.subject, problem.level, f"test/{i}",
        )  # fmt: skip
        assert row["solution"].endswith(f"\\boxed{{{problem.answer}}}")
