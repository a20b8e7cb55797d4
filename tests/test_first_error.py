from __future__ import annotations

import numpy as np
import pytest

from lit_prm.first_error import best_threshold, cross_fitted_f1, f1, first_below


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


def test_a_half_is_judged_without_its_own_labels() -> None:
    """Change the labels of the even problems: the predictions on them, and so the odd threshold's work, stay."""
    rng = np.random.default_rng(1)
    steps, valid, problem = rng.normal(size=(80, 3)), np.ones((80, 3), bool), np.arange(80) // 4
    truth = np.where(rng.random(80) < 0.5, rng.integers(0, 3, 80), -1)
    even = problem % 2 == 0
    by_odd = first_below(steps[even], valid[even], best_threshold(steps[~even], valid[~even], truth[~even]))
    only_even_right = truth.copy()
    only_even_right[even] = by_odd  # as if the odd threshold were always right there
    found = cross_fitted_f1(steps, valid, only_even_right, problem)
    by_even = first_below(steps[~even], valid[~even], best_threshold(steps[even], valid[even], by_odd))
    predicted = np.empty(80, int)
    predicted[even], predicted[~even] = by_odd, by_even
    assert found == pytest.approx(f1(predicted, only_even_right))


def test_steps_that_tell_nothing_are_near_chance_where_a_fitted_threshold_would_not_be() -> None:
    rng = np.random.default_rng(2)
    steps, valid, problem = rng.normal(size=(4000, 3)), np.ones((4000, 3), bool), np.arange(4000) // 8
    truth = np.where(rng.random(4000) < 0.5, rng.integers(0, 3, 4000), -1)
    assert cross_fitted_f1(steps, valid, truth, problem) < 0.35
    clear = steps.copy()
    clear[np.arange(4000)[truth >= 0], truth[truth >= 0]] -= 20
    assert cross_fitted_f1(clear, valid, truth, problem) > 0.99
