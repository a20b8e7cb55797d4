from __future__ import annotations

import pytest

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.generation.labeling import grade, graded_group

HALF = Problem(prompt="What is 1/2?", id="p1", answer="0.5", subject="Algebra", level=2)


def test_a_label_says_whether_the_stated_answer_equals_the_gold_one() -> None:
    group = graded_group(HALF, ["it is \\boxed{\\frac{1}{2}}", "\\boxed{2}", "no idea", "\\boxed{.5}"], generator="m")
    assert [r.correct for r in group.rollouts] == [True, False, False, True]
    assert [r.answer for r in group.rollouts] == ["\\frac{1}{2}", "2", None, ".5"]
    assert {r.generator for r in group.rollouts} == {"m"}
    assert group.problem == HALF


def test_grading_replaces_old_labels_and_keeps_everything_else() -> None:
    wrong = Rollout(response="a\n\\boxed{2}", steps=("a\n", "\\boxed{2}"), first_error=1, correct=True, generator="g")
    graded = grade(Group(problem=HALF, rollouts=(wrong,))).rollouts[0]
    assert (graded.correct, graded.answer) == (False, "2")
    assert (graded.response, graded.steps, graded.first_error, graded.generator) == (
        wrong.response, wrong.steps, 1, "g",
    )  # fmt: skip


def test_grading_twice_changes_nothing() -> None:
    once = graded_group(HALF, ["\\boxed{0.50}", "7"])
    assert grade(once) == once


def test_a_problem_without_answer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="problem p7 has no answer to grade against"):
        graded_group(Problem(prompt="?", id="p7"), ["1"])
