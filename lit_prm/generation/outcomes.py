"""Labels of responses: is the final answer right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lit_prm.answers import extract_answer, is_correct
from lit_prm.data.records import Group, Problem, Rollout


def grade(group: Group) -> Group:
    """The group with every response's final answer and whether it equals the problem's."""
    answer = gold(group.problem)
    responses = [(rollout, rollout.response) for rollout in group.rollouts]
    graded = (replace(r, answer=extract_answer(text), correct=is_correct(text, answer)) for r, text in responses)
    return replace(group, rollouts=tuple(graded))


def graded_group(problem: Problem, responses: Sequence[str], generator: str | None = None) -> Group:
    """A problem with its sampled responses, graded."""
    return grade(Group(problem=problem, rollouts=tuple(Rollout(response=r, generator=generator) for r in responses)))


def gold(problem: Problem) -> str:
    """The answer to grade against; a problem without one is refused."""
    if problem.answer is None:
        raise ValueError(f"problem {problem.id} has no answer to grade against; give one or drop the problem")
    return problem.answer
