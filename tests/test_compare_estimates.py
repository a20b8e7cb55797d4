"""Intervals over seeds and problems: what they equal, what they cover, what makes them wider."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.evaluation.estimate import Estimate
from lit_prm.evaluation.intervals import bootstrap_interval
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.estimates import Floats, Key, Resamples, Values, holm, of_independent, p_value, shares
from tests.compare_runs import experiment, run


def cells(by_seed: list[list[float]]) -> dict[Key, float]:
    return {(seed, f"p{i:03}"): x for seed, right in enumerate(by_seed) for i, x in enumerate(right)}


def estimate(values: Values, worlds: dict[int, str] | None = None) -> Estimate:
    return Resamples(tuple(values), worlds or {}).estimate(values).estimate


def drawn(
    rng: np.random.Generator, seeds: int, size: int, of_seed: float = 0.0, of_problem: float = 0.0
) -> list[list[float]]:
    """Seed effect + problem effect (shared by seeds) + noise."""
    problems = of_problem * rng.normal(size=size)
    return [(of_seed * rng.normal() + problems + 0.1 * rng.normal(size=size)).tolist() for _ in range(seeds)]


# --- the bootstrap --------------------------------------------------------------------------------


def test_one_seed_has_the_interval_of_selection() -> None:
    right = np.random.default_rng(1).random(50).tolist()
    low, high = bootstrap_interval(right)
    assert estimate(cells([right])) == pytest.approx((100 * fmean(right), 100 * low, 100 * high))


def test_equal_values_have_no_spread() -> None:
    assert estimate(cells([[0.25] * 20] * 3)) == pytest.approx((25, 25, 25))


def test_one_problem_of_one_seed_says_nothing_of_its_spread() -> None:
    found = Resamples([(0, "p")], {}).estimate({(0, "p"): 0.5})
    assert math.isnan(found.estimate.low)
    assert math.isnan(found.p)


@pytest.mark.parametrize("shared", [False, True])
def test_the_deviation_of_the_draws_is_that_of_the_slow_bootstrap(shared: bool) -> None:
    rng = np.random.default_rng(3)
    by_seed = drawn(rng, seeds=4, size=15, of_seed=0.3, of_problem=0.3)
    worlds = dict.fromkeys(range(4), "same") if shared else {}
    values = cells(by_seed)
    fast = Resamples(tuple(values), worlds, samples=4000).means(values)
    slow = [_slow(np.random.default_rng(i), np.array(by_seed), shared) for i in range(2000)]
    assert fast.std() == pytest.approx(np.std(slow), rel=0.06)
    assert fast.mean() == pytest.approx(np.mean(slow), abs=8 * float(np.std(slow)) / math.sqrt(2000))


def _slow(rng: np.random.Generator, values: Floats, shared: bool) -> float:
    """One draw of the hierarchical bootstrap, as one would tell it; [seeds, problems]."""
    seeds, size = values.shape
    of_all = rng.integers(size, size=size)
    which = np.asarray(rng.integers(seeds, size=seeds))
    return fmean(values[s, of_all if shared else rng.integers(size, size=size)].mean() for s in which)


def test_seeds_on_the_same_problems_are_not_taken_for_more_problems() -> None:
    by_seed = drawn(np.random.default_rng(4), seeds=5, size=40, of_problem=1.0)
    values = cells(by_seed)
    same, own = estimate(values, dict.fromkeys(range(5), "same")), estimate(values)
    assert same.half > 1.5 * own.half
    assert same.half == pytest.approx(estimate(cells(by_seed[:1])).half, rel=0.25)  # more seeds, no more problems


def test_what_seeds_differ_by_is_in_the_interval() -> None:
    values = cells([[level] * 30 for level in (0.1, 0.5, 0.9)])
    pooled = estimate({(0, f"{s}{p}"): x for (s, p), x in values.items()})
    assert estimate(values).half > 2 * pooled.half
    assert estimate(values).low == pytest.approx(10, abs=1)  # all three draws may be the worst seed


@pytest.mark.parametrize("shared", [False, True])
def test_intervals_cover_the_truth(shared: bool) -> None:
    hits = 0
    for i in range(30):
        rng = np.random.default_rng(i)
        by_seed = (
            drawn(rng, 6, 40, of_seed=0.1, of_problem=0.5)
            if shared
            else [*(d for _ in range(6) for d in drawn(rng, 1, 40, 0.1, 0.5))]
        )
        found = estimate(cells(by_seed), dict.fromkeys(range(6), "same") if shared else {})
        hits += found.low <= 0 <= found.high
    assert hits >= 26


# --- means over sets ------------------------------------------------------------------------------


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1), min_size=1, max_size=3))
def test_shares_have_the_mean_of_the_sets_means(per_set: list[dict[str, float]]) -> None:
    found = shares(per_set)
    assert fmean(found.values()) == pytest.approx(fmean(fmean(s.values()) for s in per_set), abs=1e-9)
    assert found.keys() == {key for values in per_set for key in values}


def test_the_interval_of_independent_seeds_shrinks_with_their_root() -> None:
    one, four = (of_independent([Estimate(0.5, 0.4, 0.6)] * n) for n in (1, 4))
    assert one == pytest.approx((0.5, 0.4, 0.6))
    assert four == pytest.approx((0.5, 0.45, 0.55))


def test_seeds_judged_on_the_same_data_do_not_shrink_it() -> None:
    metrics = {"steps/test/found": 0.5, "steps/test/found/low": 0.4, "steps/test/found/high": 0.6}

    def found(*worlds: str) -> Estimate | None:
        runs = (run("a", seed, {"test": [0.5]}, world, metrics=metrics) for seed, world in enumerate(worlds))
        return Evidence([type(experiment("a", []))("a", tuple(runs))]).of_metric("a", "steps/test/found")

    assert found("same", "same", "same", "same") == pytest.approx((50, 40, 60))
    assert found("one", "one", "other", "other") == pytest.approx((50, 50 - 10 / 2**0.5, 50 + 10 / 2**0.5))
    assert found("", "", "", "") == pytest.approx((50, 45, 55))  # a world of its own each


# --- p values -------------------------------------------------------------------------------------


def test_p_is_one_without_difference_and_small_far_from_it() -> None:
    assert p_value(0.0, 0.0) == 1.0
    assert p_value(0.0, 0.3) == 1.0
    assert p_value(1.96, 1.0) == pytest.approx(0.05, abs=1e-3)
    assert p_value(-1.96, 1.0) == p_value(1.96, 1.0)
    assert p_value(0.1, 0.0) == 0.0


def test_holm_is_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm 1979 by hand
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    corrected = holm([0.01, math.nan])
    assert corrected[0] == 0.01
    assert math.isnan(corrected[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(ps: list[float]) -> None:
    found = holm(ps)
    assert all(p <= q <= min(1.0, len(ps) * p) or q == max(found) for p, q in zip(ps, found, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert all(found[a] <= found[b] for a, b in pairwise(order))


# --- pairs ----------------------------------------------------------------------------------------


def test_a_known_difference_has_the_known_interval() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = rng.random(80), rng.random(80)
    evidence = Evidence([experiment("theirs", [theirs.tolist()]), experiment("ours", [ours.tolist()])])
    ((names, pair),) = evidence.pairs("bon", ("test",), (16,)).items()
    low, high = bootstrap_interval(ours - theirs)
    assert pair.estimate == pytest.approx((100 * (ours - theirs).mean(), 100 * low, 100 * high))
    assert names == ("ours", "theirs")


def test_a_constant_gain_is_certain_and_equal_runs_are_equal() -> None:
    right = np.random.default_rng(6).random((3, 30)) / 2
    a, b, c = (experiment(n, (right + gain).tolist()) for n, gain in (("a", 0.0), ("b", 0.0), ("c", 0.125)))
    pairs = Evidence([a, b, c]).pairs("bon", ("test",), (4,))
    assert pairs["b", "a"].p == 1.0
    assert pairs["b", "a"].estimate == (0, 0, 0)
    assert pairs["c", "a"].estimate == pytest.approx((12.5, 12.5, 12.5))
    assert pairs["c", "b"].p < 1e-6


def test_pairs_are_of_the_same_seeds_on_the_same_data() -> None:
    a = experiment("a", [[0.5, 0.5, 0.0], [0.1, 0.2, 0.3]])
    (pair,) = Evidence([a, experiment("b", [[0.5, 0.5, 0.5]])]).pairs("bon", ("test",), (4,)).values()
    assert pair.estimate.mean == pytest.approx(50 / 3)  # of seed 0 alone: with seed 1 of a it would be 0.5 - 0.8 / 3
    elsewhere = experiment("b", [[0.5, 0.5, 0.5]], world="other data")
    assert Evidence([a, elsewhere]).pairs("bon", ("test",), (4,)) == {}
    later = type(a)("b", (run("b", 7, {"test": [0.5]}),))
    assert Evidence([a, later]).difference("b", "a", "bon", ("test",), (4,)) is None


def test_pairing_finds_what_the_bands_hide() -> None:
    rng = np.random.default_rng(7)
    hard = rng.random(100)
    a, b = experiment("a", [hard.tolist()]), experiment("b", [(hard + 0.03 + 0.02 * rng.normal(size=100)).tolist()])
    evidence = Evidence([a, b])
    one, other = (evidence.estimate(n, "bon", ("test",), (4,)) for n in "ab")
    assert one is not None
    assert other is not None
    assert one.high > other.low
    assert evidence.pairs("bon", ("test",), (4,))["b", "a"].p < 0.001


def test_the_mean_over_sets_counts_sets_alike_and_needs_all_of_them() -> None:
    both = run("a", 0, {"test": [0.0, 0.0, 0.0], "weaker": [1.0]})
    one = run("a", 1, {"test": [1.0, 1.0]})
    evidence = Evidence([type(experiment("a", []))("a", (both, one))])
    found = evidence.estimate("a", "bon", ("test", "weaker"), (4,))
    assert found is not None
    assert found.mean == pytest.approx(50)  # of seed 0 alone: seed 1 has no set `weaker`
