"""The paper's numbers, estimates from recorded runs, verdicts on its claims."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.commands.paper.claims import COST, POLICY, RULES, Claim, ClaimVerdict, claims
from lit_prm.commands.paper.methods import LABELS
from lit_prm.commands.paper.results import Line, PaperResults, metric_difference, of_metric, ratio, summary
from lit_prm.evaluation.estimate import Estimate
from lit_prm.reports.paper_numbers import COUNTS, GENERATORS, PAPER_ROW, paper
from tests.paper_runs import write_run

# --- the paper's numbers --------------------------------------------------------------------------

PRINTED = {  # averages of table 1 as printed, of tables 2 and 5 computed again (docs/facts.md)
    "eurusrm": 46.9, "skyworkrm": 46.8, "armorm": 46.6, "shepherd-7b": 45.6, "rlhflow-mistral": 49.1,
    "rlhflow-deepseek": 49.1, "shepherd-8resp": 47.8, "autopsv-8resp": 45.7, "dpo-8resp": 50.4, "kto-8resp": 45.7,
    "nca-8resp": 49.4, "ce-8resp": 48.4, "ce-8resp-balanced": 47.8, "ce-8resp-instbalanced": 49.0,
    "dpo-8resp-general": 50.20, "dpo-8resp-code": 49.93, "dpo-8resp-dedup": 48.24, "dpo-8resp-mixedgen": 49.93,
    "dpo-8resp-steplabels": 50.13, "base-0resp": 45.8, "dpo-8resp-noref-infer": 50.6, "dpo-8resp-noref-train": 50.2,
    "dpo-8resp-noref": 50.3,
}  # fmt: skip
BEST_OF_64 = {"ce-1resp": 44.5, "ce-2resp": 48.7, "ce-4resp": 50.5, "dpo-2resp": 36.8, "dpo-4resp": 49.3}  # figure 1


@pytest.mark.parametrize(("name", "mean"), PRINTED.items())
def test_cells_give_the_printed_averages(name: str, mean: float) -> None:
    assert paper().rows[name].mean() == pytest.approx(mean, abs=0.051)


@pytest.mark.parametrize(("name", "mean"), BEST_OF_64.items())
def test_curves_of_figure_5_give_the_points_of_figure_1(name: str, mean: float) -> None:
    assert paper().rows[name].mean(counts=(64,)) == pytest.approx(mean, abs=0.2)


def test_every_row_knows_every_generator_at_every_count_of_the_tables() -> None:
    for row in paper().rows.values():
        assert row.accuracy.keys() == GENERATORS.keys()
        assert all({1, *COUNTS} <= by_count.keys() for by_count in row.accuracy.values())


def test_the_votes_paper_and_the_labels_name_the_same_experiments() -> None:
    rows = paper()
    ours = {*rows.votes, *rows.flops, *rows.cost_ratios, *rows.policy, *PAPER_ROW.values()} - {"shepherd-8resp"}
    assert ours <= LABELS.keys()
    assert set(PAPER_ROW) <= LABELS.keys()


# --- estimates ------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_sets_count_alike_whatever_their_size(a: list[float], b: list[float]) -> None:
    found = summary([{(0, f"a{i}"): x for i, x in enumerate(a)}, {(0, f"b{i}"): x for i, x in enumerate(b)}])
    assert found is not None
    assert found.mean == pytest.approx(100 * (np.mean(a) + np.mean(b)) / 2)
    assert found.low <= found.mean + 1e-9
    assert found.high >= found.mean - 1e-9


def test_the_interval_is_that_of_independent_sets_or_of_shared_problems() -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(0.5, 0.2, 400)
    one = summary([{(0, str(i)): x for i, x in enumerate(easy)}])
    shared = summary([{(0, str(i)): x + shift for i, x in enumerate(easy)} for shift in (-0.3, 0.3)])
    apart = summary([{(s, str(i)): x + shift for i, x in enumerate(easy)} for s, shift in enumerate((-0.3, 0.3))])
    assert one is not None
    assert shared is not None
    assert apart is not None
    assert one.half == pytest.approx(100 * 1.96 * 0.2 / 20, rel=0.1)
    assert shared.half == pytest.approx(one.half)  # the same problems twice tell nothing new
    assert apart.half == pytest.approx(one.half / np.sqrt(2), rel=0.1)  # levels far apart widen nothing


def test_estimates_are_means_over_seeds_sets_and_counts(tmp_path: Path) -> None:
    for seed, level in enumerate((0.4, 0.5, 0.6)):
        write_run(tmp_path, "a", seed, level=level, noise=0)
    results = PaperResults(tmp_path, 3)
    offsets = [np.random.default_rng([seed, 1]).uniform(-0.2, 0.2, 40) for seed in range(3)]
    expected = 50 + 100 * np.mean([np.mean([o[:count].mean() for o in offsets]) for count in (20, 40, 20)])
    found = results.estimate(Line("a"))
    assert found is not None
    assert found.mean == pytest.approx(expected)
    assert results.sets == ("weaker", "test", "stronger")


def test_a_difference_is_paired_on_the_same_problems_of_the_same_seeds(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, "a", seed, level=0.55, noise=0)
    for seed in (1, 2):
        write_run(tmp_path, "b", seed, level=0.50, noise=0)
    found = PaperResults(tmp_path, 3).difference(Line("a"), Line("b"))
    assert found is not None
    assert found == pytest.approx((5, 5, 5))  # difficulty, the same for both, leaves no trace


def test_unfinished_missing_and_later_seeds_do_not_count_and_are_told(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0)
    write_run(tmp_path, "a", 1, status="KILLED")
    write_run(tmp_path, "a", 5)
    write_run(tmp_path, "b", 0, sets={"test": 10})
    results = PaperResults(tmp_path, 2)
    assert results.experiment("a").seeds == (0,)
    assert results.missing(["a", "b", "c"]) == ["a (only seeds 0)", "b (only seeds 0)", "c"]
    assert results.estimate(Line("b")) is None  # a mean over one set is not the mean over three
    assert results.estimate(Line("b"), ("test",)) is not None
    assert results.estimate(Line("a"), counts=(5,)) is None
    assert results.estimate(Line("a", "bon/none")) is None
    assert results.difference(Line("a"), Line("c")) is None


def test_first_errors_leave_out_problems_without_one(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, curves={"first_error/found": 0.5})
    results = PaperResults(tmp_path, 1)
    assert results.estimate(Line("a", "first_error/found"), ("test",)) == pytest.approx((50, 50, 50))
    assert results.estimate(Line("a", "first_error/chance"), ("test",)) is None


def test_differences_of_metrics_are_as_wide_as_of_different_problems(tmp_path: Path) -> None:
    for seed in range(4):
        for name, value in (("a", 0.5), ("b", 0.3)):
            write_run(tmp_path, name, seed, metrics={"x": value, "x/low": value - 0.03, "x/high": value + 0.03, "y": 1})
    results = PaperResults(tmp_path, 4)
    assert of_metric(results, "a", "x") == pytest.approx((50, 48.5, 51.5))
    found = metric_difference(results, "a", "b", "x")
    assert found is not None
    assert (found.mean, found.half) == pytest.approx((20, 1.5 * np.sqrt(2)))
    assert of_metric(results, "a", "y") is None
    assert metric_difference(results, "a", "c", "x") is None


def test_ratios_are_taken_seed_by_seed(tmp_path: Path) -> None:
    for seed, (a, b) in enumerate([(10.0, 5.0), (40.0, 10.0)]):
        write_run(tmp_path, "a", seed, metrics={COST: a})
        write_run(tmp_path, "b", seed, metrics={COST: b})
    results = PaperResults(tmp_path, 3)
    assert ratio(results, "a", "b", COST) == (3, 2, 4)
    assert ratio(results, "a", "none", COST) is None


# --- verdicts -------------------------------------------------------------------------------------

INTERVALS = [  # mean, low, high -> above, below, same, kept
    ((5, 4, 6), "yes", "no", "no", "yes"),
    ((-5, -6, -4), "no", "yes", "no", "no"),
    ((1, -1, 2.5), "within noise", "within noise", "yes", "yes"),
    ((1, 0.5, 1.5), "yes", "no", "yes", "yes"),
    ((2.5, 1, 4), "yes", "no", "within noise", "yes"),
    ((-2.5, -4, -1), "no", "yes", "within noise", "within noise"),
    ((4, -1, 9), "within noise", "within noise", "within noise", "yes"),
    ((-4, -9, 1), "within noise", "within noise", "within noise", "within noise"),
]


@pytest.mark.parametrize(("ends", "above", "below", "same", "kept"), INTERVALS)
def test_rules_read_the_interval(
    ends: tuple[float, float, float], above: str, below: str, same: str, kept: str
) -> None:
    found = Estimate(*ends)
    assert [RULES[name].verdict(found) for name in ("above", "below", "same", "kept")] == [above, below, same, kept]


def test_a_cost_is_dearer_only_when_every_seed_says_so() -> None:
    assert RULES["dearer"].verdict(Estimate(2, 1.5, 3)) is ClaimVerdict.YES
    assert RULES["dearer"].verdict(Estimate(0.5, 0.4, 0.9)) is ClaimVerdict.NO
    assert RULES["dearer"].verdict(Estimate(1.2, 0.9, 3)) is ClaimVerdict.NOISE


@given(st.floats(-20, 20), st.floats(0, 10))
def test_no_rule_says_yes_and_no_and_turning_the_sign_turns_above_into_below(mean: float, half: float) -> None:
    found, turned = (Estimate(m, m - half, m + half) for m in (mean, -mean))
    for rule in RULES.values():
        assert not (rule.holds(found) and rule.fails(found))
        assert rule.verdict(None) is ClaimVerdict.MISSING
    assert RULES["above"].verdict(found) is RULES["below"].verdict(turned)
    assert RULES["same"].verdict(found) is RULES["same"].verdict(turned)


# --- claims ---------------------------------------------------------------------------------------

# The paper's text against its own numbers: CE on a quarter of the instructions is a little worse than on two responses.
AGAINST_ITS_NUMBERS = "Responses matter more than instructions: from as many rollouts, CE"


def test_the_papers_own_numbers_bear_out_its_claims() -> None:
    for claim in claims(paper()):
        for number in re.findall(r"[+-]\d+\.\d", claim.paper):
            value = float(number)
            found = Estimate(value, value, value)  # as if without noise
            said = claim.rule.verdict(found)
            assert (said is ClaimVerdict.YES) != claim.sentence.startswith(AGAINST_ITS_NUMBERS), claim


PAPER_POLICY = paper().policy


@pytest.fixture(scope="module")
def papers_world(tmp_path_factory: pytest.TempPathFactory) -> PaperResults:
    """Runs that found exactly what the paper reports, on many problems."""
    runs = tmp_path_factory.mktemp("runs")
    for name in LABELS:
        row = paper().rows.get({**PAPER_ROW, "dpo-8resp-irrelevant": "dpo-8resp-general"}.get(name, name))
        level = (row.mean() if row else 46.9) / 100
        cost = paper().flops.get(PAPER_ROW.get(name, name), 1e18)
        policy = PAPER_POLICY.get(name, 40.0) / 100
        metrics = {COST: cost, POLICY: policy, f"{POLICY}/low": policy - 0.02, f"{POLICY}/high": policy + 0.02}
        curves = {"vote/min": paper().votes.get(name, 50.0) / 100, "majority": 0.491, "bon/random": 0.391}
        write_run(runs, name, level=level, curves=curves, metrics=metrics, noise=0.001)
    return PaperResults(runs, 1)


def verdicts(results: PaperResults) -> dict[Claim, ClaimVerdict]:
    return {claim: claim.judged(results)[1] for claim in claims(paper()) if claim.paper}


def test_a_world_like_the_papers_has_its_shape(papers_world: PaperResults) -> None:
    for claim, verdict in verdicts(papers_world).items():
        against = claim.sentence.startswith(AGAINST_ITS_NUMBERS)
        assert verdict is (ClaimVerdict.NO if against else ClaimVerdict.YES), claim.sentence


def test_where_all_is_alike_nothing_is_better_and_nothing_lost(tmp_path: Path) -> None:
    for name in LABELS:
        metrics = {POLICY: 0.4, f"{POLICY}/low": 0.39, f"{POLICY}/high": 0.41, COST: 1.0}
        write_run(tmp_path, name, curves={"majority": 0.5, "bon/random": 0.5}, metrics=metrics, noise=0.02)
    found = verdicts(PaperResults(tmp_path, 1))
    assert {verdict for claim, verdict in found.items() if claim.rule in (RULES["same"], RULES["kept"])} == {
        ClaimVerdict.YES
    }
    others = [verdict for claim, verdict in found.items() if claim.rule not in (RULES["same"], RULES["kept"])]
    assert others.count(ClaimVerdict.NOISE) > 0.8 * len(others)


def test_without_runs_nothing_is_claimed(tmp_path: Path) -> None:
    assert set(verdicts(PaperResults(tmp_path, 3)).values()) == {ClaimVerdict.MISSING}


def test_claims_are_about_experiments_of_the_paper(papers_world: PaperResults, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()
    experiment = PaperResults.experiment
    monkeypatch.setattr(PaperResults, "experiment", lambda self, name: asked.add(name) or experiment(self, name))  # type: ignore[func-returns-value]
    verdicts(PaperResults(papers_world.folder, 1))
    assert asked <= LABELS.keys()
