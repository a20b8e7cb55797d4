"""Splits by problem: disjoint, decided by seed and text alone, smaller ones inside larger ones."""

from __future__ import annotations

import random

import pytest

from lit_prm.data.data_report import normalised
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.training.worlds.smol import split_by_problem

SIZES = {"train": 20, "validation": 6, "test": 8, "seed": 0}


def group(i: int, text: str | None = None) -> Group:
    rollouts = tuple(Rollout(response=f"{i}-{k}", correct=k == 0) for k in range(8))
    return Group(problem=Problem(prompt=text or f"Add {i} and 1.", id=str(i)), rollouts=rollouts)


def texts(groups: list[Group]) -> set[str]:
    return {normalised(g) for g in groups}


def test_no_row_of_a_problem_is_in_two_splits() -> None:
    """Rows of one problem differ in id, in white space and in case."""
    rows = [group(i) for i in range(60)] + [group(100 + i, f"add  {i} AND 1") for i in range(0, 60, 2)]
    splits = split_by_problem(rows, train=None, validation=6, test=8, seed=0)
    named = list(splits)
    assert named == ["train", "validation", "test"]
    for i, a in enumerate(named):
        for b in named[i + 1 :]:
            assert not texts(splits[a]) & texts(splits[b])
    assert sum(map(len, splits.values())) == len(rows)
    assert [len(texts(splits[name])) for name in named] == [46, 6, 8]


def test_the_order_of_rows_changes_nothing_but_the_order() -> None:
    rows = [group(i) for i in range(60)]
    shuffled = random.Random(1).sample(rows, len(rows))
    first, second = split_by_problem(rows, **SIZES), split_by_problem(shuffled, **SIZES)
    for name in first:
        assert texts(first[name]) == texts(second[name])
        assert [int(g.problem.id) for g in first[name]] == sorted(int(g.problem.id) for g in first[name])


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_smaller_split_is_inside_a_larger_one_and_leaves_the_others_alone(name: str) -> None:
    rows = [group(i) for i in range(60)]
    large, small = split_by_problem(rows, **SIZES), split_by_problem(rows, **SIZES | {name: 3})
    assert len(small[name]) == 3
    assert texts(small[name]) < texts(large[name])
    assert all(small[other] == large[other] for other in large if other != name)


def test_another_seed_gives_other_problems() -> None:
    rows = [group(i) for i in range(60)]
    assert split_by_problem(rows, **SIZES)["test"] != split_by_problem(rows, **SIZES | {"seed": 1})["test"]


def test_a_small_source_keeps_most_of_its_problems_for_training() -> None:
    splits = split_by_problem([group(i) for i in range(12)], train=1000, validation=50, test=100, seed=0)
    assert {name: len(groups) for name, groups in splits.items()} == {"train": 8, "validation": 2, "test": 2}


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4 problems are too few to split; name a source with at least 5"):
        split_by_problem([group(i % 4) for i in range(9)], **SIZES)
    with pytest.raises(ValueError, match=r"test: 0 problems; give at least 1"):
        split_by_problem([group(i) for i in range(9)], **SIZES | {"test": 0})
