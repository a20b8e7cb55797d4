"""Laws of votes: candidates are grouped by a symmetric rule that sees no gold answer."""

from __future__ import annotations

import inspect
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prm.answers import cluster, equivalent
from tests.fresh_verdicts import cache, no_worker, own_verdicts  # noqa: F401  fixtures


def test_clusters_are_numbered_by_first_appearance_without_gold() -> None:
    given_answers = ["0.5", None, r"\dfrac12", "3", r"\sqrt{8}", "1/2", r"2\sqrt{2}", "3.0", None]
    assert cluster(given_answers) == [0, -1, 0, 1, 2, 0, 2, 1, -1]
    assert list(inspect.signature(cluster).parameters) == ["answers"]


def test_answers_of_a_group_are_equivalent_in_pairs_whatever_their_order() -> None:
    chain = ["x-2y+z=0", "0", "5x+3=0", "x-2y+z=0", "[-2,7]", r"-2\le x\le 7", r"x^2\le 49"]
    first = cluster(chain)
    assert first == [0, 1, 2, 0, 3, 3, 4]  # an equation is not its right side, if either may be the gold answer
    for order in itertools.islice(itertools.permutations(range(7)), 0, 5040, 211):
        again = cluster([chain[i] for i in order])
        pairs = itertools.product(enumerate(order), repeat=2)
        assert all((first[i] == first[j]) == (again[a] == again[b]) for (a, i), (b, j) in pairs)


@given(st.lists(st.sampled_from(["1", "2/4", "0.5", "1.0", "east", None]), max_size=12))
@settings(deadline=None)
def test_clusters_are_the_classes_of_equivalence(given_answers: list[str | None]) -> None:
    ids = cluster(given_answers)
    for i, a in zip(ids, given_answers, strict=True):
        for j, b in zip(ids, given_answers, strict=True):
            assert (i == j) == (a is b if a is None or b is None else equivalent(a, b))


@pytest.mark.usefixtures("no_worker")
def test_short_numeric_answers_cluster_in_no_time() -> None:
    for shift in range(200):
        assert cluster([str(i * i % 13 + shift) for i in range(64)])[13] == 0
