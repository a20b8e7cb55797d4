"""The choice of problems and responses is nested, seeded, ordered, and hangs on each problem alone."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.regimes import subsample


def make(problems: int, responses: int = 6) -> list[Group]:
    return [
        Group(
            problem=Problem(prompt=f"What is {i} + 1?", id=f"p{i}"),
            rollouts=tuple(Rollout(response=f"p{i} r{k}", correct=k % 2 == 0) for k in range(responses)),
        )
        for i in range(problems)
    ]


def choose(groups: list[Group], fraction: float = 1.0, responses: int | None = None, seed: int = 0) -> list[Group]:
    return subsample(groups, fraction_of_problems=fraction, responses_per_problem=responses, seed=seed)


def chosen_responses(groups: list[Group]) -> set[str]:
    return {r.response for g in groups for r in g.rollouts}


FRACTIONS = st.floats(0.01, 1)


@given(a=FRACTIONS, b=FRACTIONS, k=st.integers(1, 6), m=st.integers(1, 6), seed=st.integers(0, 99))
def test_smaller_choices_lie_inside_larger_ones(a: float, b: float, k: int, m: int, seed: int) -> None:
    groups = make(17)
    small = choose(groups, min(a, b), min(k, m), seed)
    large = choose(groups, max(a, b), max(k, m), seed)
    assert chosen_responses(small) <= chosen_responses(large)


@given(fraction=FRACTIONS, k=st.integers(1, 6), seed=st.integers(0, 99))
def test_sizes_are_as_asked_and_order_is_kept(fraction: float, k: int, seed: int) -> None:
    groups = make(17)
    got = choose(groups, fraction, k, seed)
    assert len(got) == max(round(17 * fraction), 1)
    ids = [g.problem.id for g in groups]
    assert [g.problem.id for g in got] == [i for i in ids if i in {g.problem.id for g in got}]
    for group in got:
        whole = groups[ids.index(group.problem.id)].rollouts
        assert list(group.rollouts) == [r for r in whole if r in group.rollouts]
        assert len(group.rollouts) == k


@given(order=st.permutations(range(9)), fraction=FRACTIONS, k=st.integers(1, 6))
def test_the_order_of_the_file_does_not_matter(order: list[int], fraction: float, k: int) -> None:
    groups = make(9)
    assert chosen_responses(choose([groups[i] for i in order], fraction, k)) == chosen_responses(
        choose(groups, fraction, k)
    )


def test_responses_of_a_problem_do_not_depend_on_the_other_problems_or_the_fraction() -> None:
    groups = make(30)
    alone = {g.problem.id: choose([g], 1.0, 2)[0] for g in groups}
    assert all(g == alone[g.problem.id] for g in choose(groups, 0.4, 2))


def test_everything_is_everything() -> None:
    assert choose(make(5)) == make(5)
    assert choose(make(5, 3), 1.0, 3) == make(5, 3)
    assert choose([], 0.5, 2) == []


def test_seeds_differ_and_neither_problems_nor_responses_are_favoured() -> None:
    groups = make(8, 4)
    problems, responses = Counter[str](), Counter[str]()
    for seed in range(400):
        (group,) = choose(groups, 1 / 8, 1, seed)
        problems[group.problem.id] += 1
        responses[group.rollouts[0].response[-2:]] += 1
    assert len(problems) == 8
    assert 20 < min(problems.values()) <= max(problems.values()) < 80  # 50 expected, sd 6.6
    assert len(responses) == 4
    assert 60 < min(responses.values()) <= max(responses.values()) < 140  # 100 expected, sd 8.7


def test_the_choice_is_by_the_digest_of_seed_problem_and_response_on_every_machine() -> None:
    got = choose(make(10), 0.3, 2, seed=7)
    first = sorted(range(10), key=lambda i: sha256(f"(7, 'p{i}')".encode()).hexdigest())[:3]
    expected = []
    for i in sorted(first):
        drawn = sorted(range(6), key=lambda k: sha256(f"(7, 'p{i}', {k})".encode()).hexdigest())[:2]
        expected += [f"p{i} r{k}" for k in sorted(drawn)]
    assert [r.response for g in got for r in g.rollouts] == expected
    assert expected == ["p1 r4", "p1 r5", "p4 r0", "p4 r3", "p7 r0", "p7 r2"]


def test_problems_with_fewer_responses_keep_theirs() -> None:
    groups = [*make(2, 5), Group(problem=Problem(prompt="?", id="few"), rollouts=(Rollout(response="only"),))]
    assert [len(g.rollouts) for g in choose(groups, 1.0, 4)] == [4, 4, 1]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_outside_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"fraction .* is not in \(0, 1\]\. Set data.fraction"):
        choose(make(3), fraction)


def test_impossible_numbers_of_responses_are_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"0 responses per problem are less than one\. Set data.responses"):
        choose(make(3), 1.0, 0)
    with pytest.raises(
        ValueError, match=r"all 3 problems have fewer than 7 responses, the most is 6\. Set data.responses to 6"
    ):
        choose(make(3), 1.0, 7)
