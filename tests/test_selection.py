"""Laws of selection over candidates: exact expectations equal enumeration; votes see answers only."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lit_prm.evaluation import votes
from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.intervals import bootstrap_interval, bootstrap_ratio
from lit_prm.evaluation.selection import any_of_n, best_of_n, candidate_counts
from lit_prm.evaluation.vote_weights import EqualWeight, Rank, Sigmoid, Softmax, VoteWeight
from lit_prm.evaluation.votes import majority, weighted_vote

Case = tuple[list[float], list[float], list[int], int]

WEIGHTS: list[VoteWeight] = [EqualWeight(), Sigmoid(0.7), Softmax(2.0), Rank()]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores with ties, labels, answers with blanks, and n: up to one more than there are candidates."""
    k = draw(st.integers(1, 7))
    scores = draw(st.lists(st.integers(-2, 2).map(float), min_size=k, max_size=k))
    correct = draw(st.lists(st.integers(0, 1).map(float), min_size=k, max_size=k))
    answers = draw(st.lists(st.integers(-1, 3), min_size=k, max_size=k))
    return scores, correct, answers, draw(st.integers(1, k + 1))


def over_subsets(k: int, n: int, outcome: Callable[[tuple[int, ...]], float]) -> float:
    return float(np.mean([outcome(subset) for subset in combinations(range(k), min(n, k))]))


def slow_best(scores: list[float], correct: list[float], n: int) -> float:
    def outcome(subset: tuple[int, ...]) -> float:
        best = max(scores[i] for i in subset)
        return float(np.mean([correct[i] for i in subset if scores[i] == best]))

    return over_subsets(len(scores), n, outcome)


def slow_vote(weights: list[float], answers: list[int], correct: list[float], n: int) -> float:
    def share(answer: int) -> float:
        return float(np.mean([c for a, c in zip(answers, correct, strict=True) if a == answer]))

    def outcome(subset: tuple[int, ...]) -> float:
        votes: dict[int, float] = {}
        for i in subset:
            if answers[i] >= 0:
                votes[answers[i]] = votes.get(answers[i], 0.0) + weights[i]
        winners = [a for a, v in votes.items() if math.isclose(v, max(votes.values()))]
        return float(np.mean([share(a) for a in winners])) if winners else 0.0

    return over_subsets(len(answers), n, outcome)


# ---- best-of-N and any-of-N ----


@given(cases())
@settings(deadline=None)
def test_best_of_n_is_the_mean_over_all_subsets(case: Case) -> None:
    scores, correct, _, n = case
    assert best_of_n(scores, correct, n) == pytest.approx(slow_best(scores, correct, n), abs=1e-12)


@given(cases())
@settings(deadline=None)
def test_best_of_1_is_the_mean_accuracy_and_any_increasing_map_changes_nothing(case: Case) -> None:
    scores, correct, _, n = case
    assert best_of_n(scores, correct, 1) == pytest.approx(np.mean(correct), abs=1e-12)
    mapped = np.exp(np.array(scores)) - 3
    assert best_of_n(mapped, correct, n) == best_of_n(scores, correct, n)


@given(cases())
@settings(deadline=None)
def test_any_of_n_is_the_mean_over_all_subsets_and_bounds_every_choice(case: Case) -> None:
    scores, correct, _, n = case
    found = any_of_n(correct, n)
    slow = over_subsets(len(correct), n, lambda subset: max(correct[i] for i in subset))
    assert found == pytest.approx(slow, abs=1e-12)
    assert found >= best_of_n(scores, correct, n) - 1e-12
    assert any_of_n(correct, n + 1) >= found - 1e-12


@pytest.mark.parametrize("k", [64, 1024])
def test_any_of_n_is_stable_for_many_candidates(k: int) -> None:
    correct = np.arange(k) < 3
    exact = [1 - math.comb(k - 3, n) / math.comb(k, n) for n in candidate_counts(k)]
    assert_allclose([any_of_n(correct, n) for n in candidate_counts(k)], exact, atol=1e-12)


def test_a_perfect_judge_reaches_any_of_n_and_an_inverted_one_needs_all_right() -> None:
    correct = np.array([1, 0, 0, 1, 0])
    assert best_of_n(correct, correct, 3) == pytest.approx(any_of_n(correct, 3))
    assert best_of_n(-correct, correct, 2) == pytest.approx(1 / math.comb(5, 2))


def test_minus_infinity_is_the_lowest_score() -> None:
    assert best_of_n([-np.inf, 0.0, -np.inf], [1, 0, 1], 2) == pytest.approx(1 / 3)


# ---- votes ----


@given(cases())
@settings(deadline=None)
def test_majority_is_the_mean_over_all_subsets(case: Case) -> None:
    _, correct, answers, n = case
    slow = slow_vote([1.0] * len(answers), answers, correct, n)
    assert majority(answers, correct, n) == pytest.approx(slow, abs=1e-12)


@given(cases(), st.sampled_from(WEIGHTS))
@settings(deadline=None)
def test_a_weighted_vote_is_the_mean_over_all_subsets(case: Case, weight: VoteWeight) -> None:
    scores, correct, answers, n = case
    weights = weight(np.array(scores))
    slow = slow_vote(list(weights), answers, correct, n)
    assert weighted_vote(weights, answers, correct, n) == pytest.approx(slow, abs=1e-9)


def test_sums_of_weights_tie_only_if_rounding_may_part_them() -> None:
    answers, correct = [0, 1, 1, 1], [1.0, 0.0, 0.0, 0.0]
    thirds = [1 / 3, 1 / 3, 1 / 3]
    assert weighted_vote([1 + 1e-6, *thirds], answers, correct, 4) == 1.0
    assert weighted_vote([1 - 1e-6, *thirds], answers, correct, 4) == 0.0
    assert weighted_vote([0.3, 0.1, 0.1, 0.1], answers, correct, 4) == 0.5  # 0.1 + 0.1 + 0.1 is not 0.3


@pytest.mark.parametrize("n", [1, 2, 8, 31, 32, 40])
def test_equal_weights_are_the_majority_vote_even_where_subsets_are_sampled(n: int) -> None:
    answers = np.random.default_rng(0).integers(-1, 9, 32)
    assert weighted_vote(np.full(32, 0.3), answers, answers == 2, n) == pytest.approx(
        majority(answers, answers == 2, n), abs=1e-12
    )


def test_a_sampled_vote_is_near_the_exact_one_and_repeats() -> None:
    rng = np.random.default_rng(1)
    answers, weights = rng.integers(-1, 4, 15), rng.random(15)
    found = weighted_vote(weights, answers, answers == 1, 7)  # 6435 subsets: sampled
    votes._subsets.cache_clear()
    assert found == weighted_vote(weights, answers, answers == 1, 7)
    assert found != weighted_vote(weights, answers, answers == 1, 7, seed=1)
    exact = slow_vote(list(weights), answers.tolist(), (answers == 1).astype(float).tolist(), 7)
    assert found == pytest.approx(exact, abs=0.06)


@pytest.mark.parametrize("k", [6, 40])
def test_the_gold_answer_is_an_outcome_of_a_vote_and_no_input_to_it(k: int) -> None:
    """The winner's distribution is read off with indicator labels: it sums to one whatever is right."""
    rng = np.random.default_rng(2)
    answers, weights = rng.integers(0, 3, k), rng.random(k)
    ways: list[Callable[[Any], float]] = [
        lambda correct: majority(answers, correct, 4),
        lambda correct: weighted_vote(weights, answers, correct, 4),
    ]
    for vote in ways:
        wins = [vote((answers == a).astype(float)) for a in range(3)]
        assert sum(wins) == pytest.approx(1)
        assert vote(np.isin(answers, (0, 2)).astype(float)) == pytest.approx(wins[0] + wins[2])
    for strategy in WEIGHTS:
        assert list(inspect.signature(strategy).parameters) == ["scores"]


def test_names_of_answers_do_not_matter() -> None:
    answers, correct = [0, 0, 1, 2, -1, 2], [1, 1, 0, 0, 0, 0]
    renamed = [7, 7, 3, 5, -1, 5]
    assert majority(answers, correct, 4) == pytest.approx(majority(renamed, correct, 4))
    assert weighted_vote(range(6), answers, correct, 4) == weighted_vote(range(6), renamed, correct, 4)


def test_blank_answers_are_drawn_but_never_vote() -> None:
    assert majority([-1, -1, -1], [1, 1, 1], 2) == 0
    assert majority([-1, -1, 0], [0, 0, 1], 2) == pytest.approx(2 / 3)
    assert weighted_vote([9, 9, 1], [-1, -1, 0], [0, 0, 1], 2) == pytest.approx(2 / 3)


def test_all_candidates_vote_when_n_is_at_least_their_number() -> None:
    assert majority([0, 0, 1], [0, 0, 1], 9) == 0
    assert majority([0, 1], [0, 1], 2) == pytest.approx(0.5)
    assert weighted_vote([1, 1, 5], [0, 0, 1], [0, 0, 1], 3) == 1


def test_majority_is_quick_and_finite_for_many_candidates() -> None:
    rng = np.random.default_rng(3)
    start = time.process_time()
    for _ in range(3):
        answers = np.minimum(rng.geometric(0.15, 64) - 1, 20)
        curve = [majority(answers, answers == 0, n) for n in range(1, 65)]
        assert curve[0] == pytest.approx(np.mean(answers == 0))
    assert time.process_time() - start < 60  # half a second; ages if it went through subsets
    assert majority(np.arange(1024) % 2, np.arange(1024) % 2, 511) == pytest.approx(0.5)


# ---- weights ----


@pytest.mark.parametrize("weight", [Softmax(0.5), Rank(), EqualWeight()])
def test_an_offset_shared_by_a_problem_cancels(weight: VoteWeight) -> None:
    scores = np.array([0.5, -1.0, 0.5, 3.0])
    assert_allclose(weight(scores + 1000.0), weight(scores), rtol=1e-9)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_weights_are_never_negative_nor_fall_with_the_score(weight: VoteWeight) -> None:
    scores = np.array([-np.inf, -900.0, -1.0, 0.0, 2.0, 900.0])
    weights = weight(scores)
    assert (np.diff(weights) >= 0).all()
    assert (weights >= 0).all()
    assert np.isfinite(weights).all()


def test_golden_weights() -> None:
    scores = np.array([0.0, math.log(3), 0.0])
    assert_allclose(Sigmoid()(scores), [0.5, 0.75, 0.5])
    assert_allclose(Sigmoid(2.0)(scores), [0.5, 0.9, 0.5])
    assert_allclose(Softmax(0.5)(scores), [1 / 9, 1, 1 / 9])
    assert_allclose(Rank()(scores), [1.5, 3, 1.5])
    assert_allclose(Softmax()(np.full(2, -np.inf)), [1, 1])


# ---- aggregates ----


def test_golden_aggregates_read_only_valid_steps() -> None:
    steps = np.array([[1.0, -2.0, 4.0, np.nan], [3.0, np.nan, np.nan, np.nan], [5.0, 0.0, 7.0, 9.0]])
    valid = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    sigmoids = 1 / (1 + np.exp(-np.array([1.0, -2.0, 4.0, 3.0])))
    expected = {
        "min": [-2, 3],
        "sum": [3, 3],
        "mean": [1, 3],
        "last": [4, 3],
        "product": [sigmoids[:3].prod(), sigmoids[3]],
        "mean-probability": [sigmoids[:3].mean(), sigmoids[3]],
    }
    assert expected.keys() == AGGREGATES.keys()
    for name, golden in expected.items():
        assert_allclose(AGGREGATES[name](steps, valid), [*golden, -np.inf], err_msg=name)


@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_keep_leading_shapes_and_survive_extremes(name: str) -> None:
    aggregate = AGGREGATES[name]
    steps = np.full((2, 3, 4), -800.0)
    assert aggregate(steps, steps < 0).shape == (2, 3)
    assert np.isfinite(aggregate(steps, steps < 0)).all()
    assert_allclose(aggregate(np.zeros((2, 0)), np.zeros((2, 0), bool)), -np.inf)


# ---- over problems ----


def test_the_interval_holds_the_mean_narrows_with_problems_and_repeats() -> None:
    values = np.random.default_rng(0).random(400)
    low, high = bootstrap_interval(values)
    assert values.mean() - low == pytest.approx(high - values.mean(), rel=0.1)
    few_low, few_high = bootstrap_interval(values[:25])
    assert low < values.mean() < high
    assert few_high - few_low > 2 * (high - low)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)  # the normal theory
    assert bootstrap_interval(values) == (low, high) != bootstrap_interval(values, seed=1)
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_intervals_of_shifted_values_shift_because_they_share_resamples() -> None:
    values = np.random.default_rng(0).random(30)
    assert_allclose(np.subtract(bootstrap_interval(values + 2), bootstrap_interval(values)), 2)


def test_the_intervals_are_those_of_scipy_for_the_same_draws() -> None:
    values, weights = np.random.default_rng(0).random((2, 50))

    def of_scipy(data: tuple[Any, ...], statistic: Any) -> tuple[float, float]:
        drawn = scipy.stats.bootstrap(
            data, statistic, paired=True, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
        )
        return drawn.confidence_interval.low, drawn.confidence_interval.high

    assert bootstrap_interval(values) == pytest.approx(of_scipy((values,), np.mean), rel=1e-13)
    ratio = of_scipy((values, weights), lambda over, under, axis: over.sum(axis) / under.sum(axis))
    assert bootstrap_ratio(values, weights) == pytest.approx(ratio, rel=1e-13)


def test_many_problems_are_resampled_in_blocks() -> None:
    low, high = bootstrap_interval(np.arange(3_000_000) % 2, samples=3)
    assert low == pytest.approx(0.5, abs=0.01)
    assert high == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("values", [[], [0.3]])
def test_fewer_than_two_problems_have_no_interval(values: list[float]) -> None:
    assert np.isnan(bootstrap_interval(values)).all()


def test_counts_double_up_to_k() -> None:
    assert [candidate_counts(k) for k in (1, 2, 3, 8, 10)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4, 8],
        [1, 2, 4, 8, 10],
    ]


# ---- refusals ----


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_of_n([1.0], [1], 0), "n is 0"),
        (lambda: best_of_n([1.0, 2.0], [1], 1), r"correct has shape \(1,\)"),
        (lambda: best_of_n([np.nan, 2.0], [1, 0], 1), "scores is nan at"),
        (lambda: best_of_n([], [], 1), "scores has shape"),
        (lambda: any_of_n([0.5, 1], 1), "correct holds 0.5"),
        (lambda: weighted_vote([-1, 1], [0, 1], [0, 1], 1), "The weights range from -1.0"),
        (lambda: weighted_vote([np.inf, 1], [0, 1], [0, 1], 1), "to inf"),
        (lambda: majority(np.zeros(2001), np.zeros(2001), 1), "2001 candidates"),
        (lambda: bootstrap_interval([1.0, np.nan]), "1 of 2 values are nan"),
    ],
)
def test_what_cannot_be_answered_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
