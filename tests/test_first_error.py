from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.evaluation.first_error import (
    Hits,
    Known,
    best_threshold,
    cross_fitted,
    cross_fitted_f1,
    every_cut,
    f1,
    f1_at,
    first_below,
    halves,
    judged_steps,
    lowest_share,
    resampled_f1,
)
from lit_prm.evaluation.intervals import interval


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ([0, -1], [0, -1], 1.0),
        ([1, -1], [0, -1], 0.0),  # the error found in another step
        ([0, 0], [0, -1], 0.0),  # an error seen where there is none
        ([0, 1, -1, -1], [0, 0, -1, -1], 2 * 0.5 * 1 / 1.5),
        ([2, 1, -1, 3], [2, 1, -1, -1], 2 * 1 * 0.5 / 1.5),
    ],
)
def test_f1_by_hand(predicted: list[int], truth: list[int], expected: float) -> None:
    assert f1(np.array(predicted), np.array(truth)) == pytest.approx(expected)


def test_f1_needs_both_kinds() -> None:
    assert np.isnan(f1(np.array([0, 1]), np.array([0, 1])))
    assert np.isnan(f1(np.array([-1]), np.array([-1])))


def test_the_first_step_below_counts_and_steps_that_are_not_there_do_not() -> None:
    steps = np.array([[1.0, -1.0, -2.0], [1.0, 1.0, -9.0], [-1.0, 0.0, 0.0]])
    valid = np.array([[True, True, True], [True, True, False], [True, True, True]])
    assert first_below(steps, valid, 0.0).tolist() == [1, -1, 0]
    assert first_below(steps, valid, -1.0).tolist() == [2, -1, -1]  # equal is not below


def test_the_best_threshold_is_no_worse_than_any_other() -> None:
    rng = np.random.default_rng(0)
    steps, valid = rng.normal(size=(60, 4)), np.ones((60, 4), bool)
    truth = np.where(rng.random(60) < 0.5, rng.integers(0, 4, 60), -1)
    best = f1(first_below(steps, valid, best_threshold(steps, valid, truth)), truth)
    assert all(best >= f1(first_below(steps, valid, t), truth) for t in np.quantile(steps, np.linspace(0, 1, 200)))


def test_a_half_is_judged_by_the_best_threshold_of_the_other_and_without_its_own_labels() -> None:
    rng = np.random.default_rng(1)
    steps, valid, problem = rng.normal(size=(80, 3)), np.ones((80, 3), bool), np.arange(80) // 4
    truth, other = (np.where(rng.random(80) < 0.5, rng.integers(0, 3, 80), -1) for _ in range(2))
    first = halves(problem)
    for half in (first, ~first):
        by_the_other = first_below(steps[half], valid[half], best_threshold(steps[~half], valid[~half], truth[~half]))
        for labels in (truth, np.where(half, other, truth)):
            found = cross_fitted(steps, valid, labels, problem)
            assert found is not None
            assert found[half].tolist() == by_the_other.tolist()
    assert best_threshold(steps, valid, truth) != best_threshold(steps[first], valid[first], truth[first])


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_halves_are_of_whole_problems_and_follow_neither_their_order_nor_a_pattern(count: int) -> None:
    numbers = np.repeat(np.arange(count), 3)
    first = halves(numbers)
    assert first.sum() == 3 * -(-count // 2)
    assert (first.reshape(count, 3) == first[::3, None]).all()
    mixed = np.random.default_rng(0).permutation(3 * count)
    assert halves(numbers[mixed]).tolist() == first[mixed].tolist()
    if count == 100:
        assert 0.3 < first[numbers % 2 == 0].mean() < 0.7


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 1, 3, 2], [7, 5, 2, 0]])
def test_which_problems_are_wrong_and_how_they_are_ordered_does_not_decide_f1(order: list[int]) -> None:
    """Every second problem is wrong. With halves of even and odd numbers, no half had a threshold."""
    problem = np.array(order * 4) + 8 * np.repeat(np.arange(4), 4)
    truth = np.tile([0, -1, 0, -1], 4)
    steps, valid = np.where(truth == 0, -1.0, 1.0)[:, None], np.ones((16, 1), bool)
    assert cross_fitted_f1(steps, valid, truth, problem) == 1.0


def test_steps_that_tell_nothing_are_near_chance_where_a_fitted_threshold_would_not_be() -> None:
    rng = np.random.default_rng(2)
    steps, valid, problem = rng.normal(size=(4000, 3)), np.ones((4000, 3), bool), np.arange(4000) // 8
    truth = np.where(rng.random(4000) < 0.5, rng.integers(0, 3, 4000), -1)
    assert cross_fitted_f1(steps, valid, truth, problem) < 0.35
    clear = steps.copy()
    clear[np.arange(4000)[truth >= 0], truth[truth >= 0]] -= 20
    assert cross_fitted_f1(clear, valid, truth, problem) > 0.99


# --- every cut, in one sweep ----------------------------------------------------------------------


def cases(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps with ties and gaps, errors that lie beyond the last column or where no reward is."""
    rng = np.random.default_rng(seed)
    count, width = rng.integers(1, 30), rng.integers(1, 6)
    steps = rng.normal(size=(count, width)).round(int(rng.integers(0, 3)))
    valid = rng.random((count, width)) < 0.8
    return steps, valid, np.where(rng.random(count) < 0.5, rng.integers(0, width + 2, count), -1)


def slow_f1(steps: np.ndarray, valid: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """The F1 of ProcessBench as its paper says it, one response after the other."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for rewards, there, error in zip(steps.tolist(), valid.tolist(), truth.tolist(), strict=True):
        wrong = [i for i, (reward, ok) in enumerate(zip(rewards, there, strict=True)) if ok and reward < threshold]
        hits[error >= 0].append((wrong[0] if wrong else -1) == error)
    if not hits[True] or not hits[False]:
        return float("nan")
    on_wrong, on_right = (sum(h) / len(h) for h in hits.values())
    return 2 * on_wrong * on_right / (on_wrong + on_right) if on_wrong + on_right else 0.0


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_the_sweep_finds_what_deciding_response_by_response_finds(seed: int) -> None:
    steps, valid, truth = cases(seed)
    thresholds = np.concatenate([every_cut(steps, valid), steps.ravel(), [-9.0, 9.0]])
    slow = [slow_f1(steps, valid, truth, t) for t in thresholds]
    np.testing.assert_allclose(f1_at(thresholds, steps, valid, truth), slow)
    np.testing.assert_allclose([f1(first_below(steps, valid, t), truth) for t in thresholds], slow)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(-4, 4))
def test_no_threshold_beats_the_best_cut(seed: int, other: float) -> None:
    steps, valid, truth = cases(seed)
    best = best_threshold(steps, valid, truth)
    if np.isnan(best):
        assert (truth >= 0).all() or not (truth >= 0).any()
    else:
        assert f1(first_below(steps, valid, best), truth) >= f1(first_below(steps, valid, other), truth)


def test_cuts_lie_below_between_and_above_the_rewards_and_part_neighbouring_floats() -> None:
    steps, valid = np.array([[3.0, 1.0, 1.0, -50.0]]), np.array([[True, True, True, False]])
    assert every_cut(steps, valid).tolist() == [1.0, 2.0, 4.0]
    near = np.array([[1.0, np.nextafter(1.0, 2.0)]])
    below = [(near < cut).sum() for cut in every_cut(near, np.ones((1, 2), bool))]
    assert below == [0, 1, 2]
    assert every_cut(steps, ~valid & False).tolist() == [0.0]  # nothing to cut


# --- problems, not responses ----------------------------------------------------------------------


def test_responses_to_one_problem_are_of_one_problem_wherever_they_stand() -> None:
    def asked(prompt: str, *errors: int | None) -> Group:
        rollouts = tuple(Rollout(response="a", steps=("a",), first_error=e) for e in errors)
        return Group(problem=Problem(prompt=prompt, id=prompt), rollouts=rollouts)

    found = Known.of([asked("p", None, 0), asked("q", -1, None), asked("p", -1)])
    assert found.at.tolist() == [1, 2, 4]
    assert found.first_error.tolist() == [0, -1, -1]
    assert found.problem[0] == found.problem[2] != found.problem[1]
    assert Known.of([asked("q", -1), asked("p", 0)]).problem.tolist() == found.problem[[1, 0]].tolist()
    assert [len(column) for column in Known.of([asked("p", None)])] == [0, 0, 0]


def test_resampled_f1_spreads_around_f1_and_more_where_problems_repeat() -> None:
    rng = np.random.default_rng(3)
    truth = np.where(rng.random(300) < 0.6, 1, -1)
    hit = rng.random(300) < 0.7
    alone = resampled_f1(hit, truth, np.arange(300))
    assert alone.shape == (2000,)
    assert np.mean(alone) == pytest.approx(Hits.of(hit, truth).f1, abs=0.01)
    assert np.array_equal(alone, resampled_f1(hit, truth, np.arange(300)))  # seeded
    tripled = resampled_f1(np.repeat(hit, 3), np.repeat(truth, 3), np.repeat(np.arange(300), 3))
    assert interval(tripled) == pytest.approx(interval(alone))  # copies are no evidence
    pretended = resampled_f1(np.repeat(hit, 3), np.repeat(truth, 3), np.arange(900))
    assert np.std(pretended) < 0.7 * np.std(alone)
    assert np.isnan(interval(resampled_f1(hit, np.ones(300, int), np.arange(300)))).all()


# --- without a threshold --------------------------------------------------------------------------


def test_lowest_steps_share_and_steps_after_the_error_are_judged_by_nobody() -> None:
    steps = np.array([[1.0, 0.0, 0.0], [-5.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    valid = np.array([[True, True, True], [False, True, True], [False, False, False]])
    assert lowest_share(steps, valid).tolist() == [[0, 0.5, 0.5], [0, 1, 0], [0, 0, 0]]
    right, wrong = judged_steps(valid, np.array([1, -1, 7]))
    assert right.tolist() == [[True, False, False], [False, True, True], [False] * 3]
    assert wrong.tolist() == [[False, True, False], [False] * 3, [False] * 3]
