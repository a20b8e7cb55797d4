"""The data regime: a seeded choice of problems and of responses per problem, smaller ones inside larger ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lit_prm.records import Group


def subsample(
    groups: Sequence[Group], *, fraction_of_problems: float, responses_per_problem: int | None, seed: int
) -> list[Group]:
    """A share of the problems and at most so many responses of each, in the order given.

    Nested: what a smaller fraction or number chooses lies inside what a larger one does. The choice hangs on
    seed, problem id and response index alone, so neither the order of the problems nor the size of the other
    choice changes it. A problem with fewer responses keeps them all.
    """
    if not 0 < fraction_of_problems <= 1:
        raise ValueError(
            f"fraction {fraction_of_problems} of the problems is not in (0, 1]; set data.fraction to, say, 0.1"
        )
    _refuse_impossible(groups, responses_per_problem)
    chosen = _problems(groups, fraction_of_problems, seed)
    if responses_per_problem is None:
        return chosen
    return [group.keep(_responses(group, responses_per_problem, seed)) for group in chosen]


def _refuse_impossible(groups: Sequence[Group], responses: int | None) -> None:
    if responses is None or not groups:
        return
    if responses < 1:
        raise ValueError(f"{responses} responses per problem are less than one; set data.responses to 1 or more")
    most = max(len(group.rollouts) for group in groups)
    if responses > most:
        raise ValueError(
            f"all {len(groups)} problems have fewer than {responses} responses, the most is {most}; "
            f"set data.responses to {most} or less"
        )


def _problems(groups: Sequence[Group], fraction: float, seed: int) -> list[Group]:
    count = max(round(fraction * len(groups)), 1)
    order = sorted(range(len(groups)), key=lambda i: (_draw(seed, groups[i].problem.id), i))
    return [groups[i] for i in sorted(order[:count])]


def _responses(group: Group, count: int, seed: int) -> list[int]:
    order = sorted(range(len(group.rollouts)), key=lambda i: _draw(seed, group.problem.id, i))
    return sorted(order[:count])


def _draw(*facts: object) -> bytes:
    """A number drawn for these facts, the same on every machine and in every process."""
    return hashlib.sha256(repr(facts).encode()).digest()
