from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lit_prm.data.records import Group
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored, auc, located
from lit_prm.evaluation.evaluate import Judgement, judge
from lit_prm.evaluation.vote_weights import Sigmoid
from lit_prm.training.reward_metrics import reward_metrics
from tests.candidate_sets import candidate_set, groups, rollout, scored
from tests.reference import sigmoid

AGGREGATES = ("min", "sum", "mean", "last", "product")


@pytest.fixture(scope="module")
def candidates(tokenizer: PreTrainedTokenizerFast) -> CandidateSet:
    return candidate_set(tokenizer)


@pytest.fixture(scope="module")
def judgement(candidates: CandidateSet) -> Judgement:
    return judge(candidates, scored(candidates), AGGREGATES, Sigmoid())


# --- laws -----------------------------------------------------------------------------------------


def test_best_of_one_and_one_vote_are_the_mean_accuracy(candidates: CandidateSet, judgement: Judgement) -> None:
    """A single vote counts only if it names an answer, and every right response here does."""
    accuracy = [g.accuracy for g in candidates.groups]
    for name, curve in judgement.curves.items():
        np.testing.assert_allclose(curve[:, 0], accuracy, atol=1e-12, err_msg=name)


def test_no_rule_beats_any_of_n_and_random_stays_at_the_mean(candidates: CandidateSet, judgement: Judgement) -> None:
    for name, curve in judgement.curves.items():
        assert (curve <= judgement.curves["any"] + 1e-12).all(), name
    random = judgement.curves["bon/random"]
    np.testing.assert_allclose(random, np.repeat([[g.accuracy] for g in candidates.groups], random.shape[1], 1))


def test_a_scorer_that_knows_reaches_any_of_n_and_one_that_errs_always_reaches_its_opposite(
    candidates: CandidateSet,
) -> None:
    knows = knowing(candidates)
    right = judge(candidates, knows, ["min"], Sigmoid())
    np.testing.assert_allclose(right.curves["bon/min"], right.curves["any"], atol=1e-12)
    assert right.metrics["outcome/set/auc"] == right.metrics["outcome/set/auc_within_problems"] == 1
    wrong = judge(candidates, knows._replace(steps=-knows.steps, reward=-knows.reward), ["min"], Sigmoid())
    assert (wrong.curves["bon/min"] <= wrong.curves["bon/random"] + 1e-12).all()
    assert wrong.metrics["outcome/set/auc"] == 0


def knowing(candidates: CandidateSet) -> Scored:
    """+1 for every step of a right response, -1 for every one of a wrong one."""
    blank = scored(candidates)
    sign = np.zeros(len(candidates.encoded))
    sign[candidates.source] = [1 if r.correct else -1 for g in candidates.groups for r in g.rollouts]
    steps = np.where(blank.valid, sign[:, None], 0.0)
    return blank._replace(steps=steps, reward=steps.sum(1))


def test_votes_never_look_at_the_gold_answer(tokenizer: PreTrainedTokenizerFast, judgement: Judgement) -> None:
    lied = [replace(g, problem=replace(g.problem, answer="9")) for g in groups()]
    other = candidate_set(tokenizer, lied)
    again = judge(other, scored(other), AGGREGATES, Sigmoid())
    for name, curve in judgement.curves.items():
        np.testing.assert_array_equal(curve, again.curves[name])


def test_the_order_of_candidates_does_not_matter(tokenizer: PreTrainedTokenizerFast, judgement: Judgement) -> None:
    turned = candidate_set(tokenizer, [g.keep(range(len(g.rollouts) - 1, -1, -1)) for g in groups()])
    straight = candidate_set(tokenizer)
    place = {(e.group, e.key): u for u, e in enumerate(straight.encoded)}
    back = [place[e.group, e.key] for e in turned.encoded]
    again = judge(turned, of_rows(scored(straight), back), AGGREGATES, Sigmoid())
    for name, curve in judgement.curves.items():
        np.testing.assert_allclose(curve, again.curves[name], atol=1e-12, err_msg=name)


def of_rows(given: Scored, rows: list[int]) -> Scored:
    return Scored(
        given.reward[rows], given.steps[rows], given.valid[rows], given.reference_steps[rows], given.valid[rows]
    )


# --- slow, obvious references ---------------------------------------------------------------------


def slow_scores(c: CandidateSet, s: Scored, p: int) -> dict[str, list[float]]:
    """Every scorer's view of the candidates of one problem, by loops."""
    out: dict[str, list[float]] = {}
    offset = sum(len(g.rollouts) for g in c.groups[:p])
    for r in range(len(c.groups[p].rollouts)):
        u = c.source[offset + r]
        steps = [x for x, ok in zip(s.steps[u], s.valid[u], strict=True) if ok]
        ref = [x for x, ok in zip(s.reference_steps[u], s.valid[u], strict=True) if ok]
        tokens = len(c.encoded[u].step)
        row = {
            "min": min(steps), "sum": sum(steps), "mean": sum(steps) / len(steps), "last": steps[-1],
            "product": math.prod(sigmoid(x) for x in steps), "reference-sum": sum(ref), "reference-min": min(ref),
            "shortest": -tokens, "longest": tokens, "random": 0.0,
        }  # fmt: skip
        for name, value in row.items():
            out.setdefault(name, []).append(round(value, 9))
    return out


def slow_best(scores: list[float], right: list[bool], n: int) -> float:
    found = []
    for subset in combinations(range(len(scores)), min(n, len(scores))):
        top = max(scores[i] for i in subset)
        tied = [right[i] for i in subset if scores[i] == top]
        found.append(sum(tied) / len(tied))
    return sum(found) / len(found)


def slow_vote(weights: list[float], answers: list[str | None], right: list[bool], n: int) -> float:
    found = []
    for subset in combinations(range(len(weights)), min(n, len(weights))):
        tally: dict[str, float] = {}
        for i in subset:
            if (answer := answers[i]) is not None:
                tally[answer] = tally.get(answer, 0.0) + weights[i]
        top = [a for a in tally if tally[a] >= max(tally.values()) - 1e-9]
        truth = {a: right[answers.index(a)] for a in top}
        found.append(sum(truth.values()) / len(top) if top else 0.0)
    return sum(found) / len(found)


def test_every_curve_equals_the_enumeration_of_subsets(candidates: CandidateSet, judgement: Judgement) -> None:
    given = scored(candidates)
    assert judgement.counts == (1, 2, 4, 5)
    for p, group in enumerate(candidates.groups):
        right = [bool(r.correct) for r in group.rollouts]
        answers = [r.answer or _said(r.response) for r in group.rollouts]
        scores = slow_scores(candidates, given, p)
        for c, n in enumerate(judgement.counts):
            for name, values in scores.items():
                close(judgement.curves[f"bon/{name}"][p, c], slow_best(values, right, n), name)
            for name in (*AGGREGATES, "reference-min"):
                weights = [sigmoid(x) for x in scores[name]]
                close(judgement.curves[f"vote/{name}"][p, c], slow_vote(weights, answers, right, n), name)
            close(judgement.curves["majority"][p, c], slow_vote([1.0] * len(right), answers, right, n), "majority")
            some = [any(right[i] for i in s) for s in combinations(range(len(right)), min(n, len(right)))]
            close(judgement.curves["any"][p, c], sum(some) / len(some), "any")


def _said(response: str) -> str | None:
    """The last number of a response without an answer, as a reader would guess it."""
    numbers = [word for word in response.split() if word.isdigit()]
    return numbers[-1] if numbers else None


def close(value: float, wanted: float, name: str) -> None:
    assert value == pytest.approx(wanted, abs=1e-9), name


def test_auc_is_the_share_of_ordered_pairs_with_ties_half() -> None:
    rng = np.random.default_rng(0)
    right, wrong = rng.integers(0, 4, 7).astype(float), rng.integers(0, 4, 5).astype(float)
    pairs = [1.0 if r > w else 0.5 if r == w else 0.0 for r in right for w in wrong]
    assert auc(right, wrong) == pytest.approx(sum(pairs) / len(pairs))
    assert math.isnan(auc(right, wrong[:0]))
    assert math.isnan(auc(right[:0], wrong))


def test_the_auc_of_a_report_is_the_one_that_training_logs() -> None:
    """torchmetrics counts in float32; rewards above 17 would be ties behind the sigmoid it takes of them."""
    rng = np.random.default_rng(0)
    labels, rewards = np.arange(200) % 2, np.round(20 + rng.normal(size=200), 1)
    logged = reward_metrics(
        torch.tensor(rewards), torch.tensor(labels, dtype=torch.double), torch.zeros(200).long(), torch.ones(200).long()
    )
    assert float(logged["train/auc"]) == pytest.approx(auc(rewards[labels == 1], rewards[labels == 0]), abs=1e-6)


# --- metrics --------------------------------------------------------------------------------------


def test_short_names_are_the_primary_aggregate(judgement: Judgement) -> None:
    for method in ("bon", "vote"):
        for n in judgement.counts:
            assert judgement.metrics[f"{method}/set/acc@{n}"] == judgement.metrics[f"{method}/set/min/acc@{n}"]


def test_metrics_are_means_of_curves_and_lie_in_their_intervals(judgement: Judgement) -> None:
    for name, curve in judgement.curves.items():
        method, _, scorer = name.partition("/")
        for c, n in enumerate(judgement.counts):
            key = "/".join(part for part in (method, "set", scorer, f"acc@{n}") if part)
            value = judgement.metrics[key]
            assert value == pytest.approx(curve[:, c].mean())
            assert judgement.metrics[f"{key}/low"] <= value <= judgement.metrics[f"{key}/high"]


def test_gains_are_differences_of_what_is_shown(judgement: Judgement) -> None:
    m = judgement.metrics
    for n in judgement.counts:
        assert m[f"gain/set/bon-random@{n}"] == pytest.approx(m[f"bon/set/acc@{n}"] - m[f"bon/set/random/acc@{n}"])
        assert m[f"gain/set/vote-majority@{n}"] == pytest.approx(m[f"vote/set/acc@{n}"] - m[f"majority/set/acc@{n}"])


def test_levels_and_subjects_are_parts_of_the_whole(judgement: Judgement) -> None:
    sizes = {"level-1": 2, "level-2": 2, "subject-algebra": 2, "subject-number-theory": 1,
             "subject-counting-probability": 1}  # fmt: skip
    m = judgement.metrics
    shown = {key.split("/")[2] for key in m if key.startswith("any/set/level-") or key.startswith("any/set/subject-")}
    assert shown == set(sizes)
    for method in ("bon", "vote", "majority", "any"):
        for kind in ("level", "subject"):
            parts = [size * m[f"{method}/set/{p}/acc@4"] for p, size in sizes.items() if p.startswith(kind)]
            assert sum(parts) / 4 == pytest.approx(m[f"{method}/set/acc@4"])


def test_one_problem_has_no_interval_and_no_metric_is_ever_nan(tokenizer: PreTrainedTokenizerFast) -> None:
    alone = candidate_set(tokenizer, [Group(problem=groups()[0].problem, rollouts=(rollout("7", True),))])
    metrics = judge(alone, scored(alone), ["min"], Sigmoid()).metrics
    assert metrics["bon/set/acc@1"] == 1
    assert not any(key.endswith(("/low", "/high")) for key in metrics)
    assert not any(math.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("names", [["median"], []])
def test_unknown_aggregates_are_refused_with_the_known_ones(candidates: CandidateSet, names: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one of min, sum, mean, last, product"):
        judge(candidates, scored(candidates), names, Sigmoid())


# --- steps ----------------------------------------------------------------------------------------


def with_steps(
    tokenizer: PreTrainedTokenizerFast, *rows: tuple[int | None, list[float]]
) -> tuple[CandidateSet, Scored]:
    """One problem whose responses have these first errors and step rewards."""
    made = tuple(rollout("8", e == -1, len(s), e, tag=f"r{i}") for i, (e, s) in enumerate(rows))
    candidates = candidate_set(tokenizer, [Group(problem=groups()[0].problem, rollouts=made)])
    width = max(len(s) for _, s in rows)
    steps = np.array([s + [0.0] * (width - len(s)) for _, s in rows])
    valid = np.array([[i < len(s) for i in range(width)] for _, s in rows])
    return candidates, Scored(steps.sum(1), steps, valid, steps, valid)


def found(candidates: CandidateSet, given: Scored) -> tuple[float, float]:
    every = located(candidates, given)
    return float(every.found[0]), float(every.chance[0])


def test_a_located_error_is_the_step_of_lowest_reward(tokenizer: PreTrainedTokenizerFast) -> None:
    c, s = with_steps(tokenizer, (1, [0.5, -2.0]), (0, [0.1, -1.0, 0.3, 4.0]), (-1, [-9.0]), (None, [-9.0, 0.0]))
    assert found(c, s) == pytest.approx((0.5, (1 / 2 + 1 / 4) / 2))


def test_equal_rewards_locate_no_better_than_chance(tokenizer: PreTrainedTokenizerFast) -> None:
    c, s = with_steps(tokenizer, (0, [0.0] * 4), (2, [0.0] * 3), (1, [0.0] * 2))
    hits, chance = found(c, s)
    assert hits == pytest.approx(chance)


def test_steps_without_tokens_are_neither_worst_nor_counted_by_chance(tokenizer: PreTrainedTokenizerFast) -> None:
    c, s = with_steps(tokenizer, (0, [1.0, 2.0, -5.0]), (0, [1.0, 1.0]))
    valid = s.valid.copy()
    valid[0, 2] = valid[1, :] = False
    assert found(c, s._replace(valid=valid, reference_valid=valid)) == (1.0, 0.5)


def test_an_error_behind_the_cut_is_not_found(tokenizer: PreTrainedTokenizerFast) -> None:
    c, s = with_steps(tokenizer, (2, [1.0, -2.0, -3.0]))
    assert found(c, Scored(s.reward, s.steps[:, :2], s.valid[:, :2], s.steps[:, :2], s.valid[:, :2])) == (0.0, 0.5)


def test_what_follows_an_error_is_judged_by_nobody(tokenizer: PreTrainedTokenizerFast) -> None:
    def value(after: float) -> float:
        c, s = with_steps(tokenizer, (1, [1.0, -1.0, after]), (-1, [-2.0, 2.0]), (None, [after, after]))
        return judge(c, s, ["min"], Sigmoid()).metrics["steps/set/auc"]

    assert value(-50.0) == value(50.0) == pytest.approx(2 / 3)  # wrong -1 below 1 and 2, above -2


def test_the_rules_without_training_locate_by_their_own_scores(tokenizer: PreTrainedTokenizerFast) -> None:
    c, s = with_steps(tokenizer, (1, [0.0, -1.0]), (1, [-1.0, 0.0, 0.0]), (0, [0.0, -1.0]))
    by = located(c, s._replace(reference_steps=-s.steps))
    assert by.found[0] == pytest.approx((1 + 0 + 0) / 3)
    assert by.reference[0] == pytest.approx((0 + 1 / 2 + 1) / 3)  # its lowest: 0 of (0, 1); tied 1, 2; 0
    assert by.position[0] == pytest.approx(2 / 3)  # step 1 is the commonest first error
    metrics = judge(c, s, ["min"], Sigmoid()).metrics
    for rule in ("reference", "position", "chance"):
        theirs = metrics[f"steps/set/first_error_by_{rule}"]
        assert metrics[f"gain/set/first_error-{rule}"] == pytest.approx(metrics["steps/set/first_error_found"] - theirs)


def test_first_errors_of_each_kind_are_counted_by_themselves(tokenizer: PreTrainedTokenizerFast) -> None:
    errors = ((1, [0.0, -1.0]), (1, [-1.0, 0.0, 0.0]), (0, [0.0, -1.0]), (0, [-1.0, 0.0]), (-1, [0.0, 1.0]))
    c, s = with_steps(tokenizer, *errors)
    kinds = iter(("slip", "misconception", "misconception", "misconception", ""))
    marked = [
        replace(r, error_kinds=tuple(kind if i == r.first_error else "" for i in range(len(r.steps or ()))))
        for r, kind in zip(c.groups[0].rollouts, kinds, strict=True)
    ]
    metrics = judge(replace(c, groups=(replace(c.groups[0], rollouts=tuple(marked)),)), s, ["min"], Sigmoid()).metrics
    assert metrics["steps/set/slip/first_error_found"] == 1
    assert metrics["steps/set/misconception/first_error_found"] == pytest.approx(1 / 3)
    assert metrics["steps/set/first_error_found"] == pytest.approx(2 / 4)
    assert not [key for key in judge(c, s, ["min"], Sigmoid()).metrics if "slip" in key]


def test_kinds_in_any_script_have_a_metric_and_those_alike_but_for_punctuation_share_one(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    c, s = with_steps(tokenizer, *[(0, [-1.0, 0.0]), (0, [0.0, -1.0]), (0, [-1.0, 0.0]), (0, [0.0, -1.0])])

    def metrics(*kinds: str) -> dict[str, float]:
        marked = [replace(r, error_kinds=(k, "")) for r, k in zip(c.groups[0].rollouts, kinds, strict=True)]
        group = replace(c.groups[0], rollouts=tuple(marked))
        found = judge(replace(c, groups=(group,)), s, ["min"], Sigmoid()).metrics
        return {key.split("/")[2]: v for key, v in found.items() if key.count("/") == 3 and "first_error_found" in key}

    kinds = metrics("推理", "计算错误", "Slip!", "slip")
    assert {k: v for k, v in kinds.items() if k != "first_error_found"} == {"推理": 1, "计算错误": 0, "slip": 0.5}


def test_steps_of_another_rule_are_not_held_against_known_errors(tokenizer: PreTrainedTokenizerFast) -> None:
    c, s = with_steps(tokenizer, (1, [0.5, -2.0]))
    found = judge(replace(c, own_steps=False), s, ["min"], Sigmoid()).metrics
    assert not [key for key in found if "first_error" in key or key.startswith("steps/")]


def test_without_known_steps_nothing_is_said_of_steps(tokenizer: PreTrainedTokenizerFast) -> None:
    c, s = with_steps(tokenizer, (None, [1.0, -1.0]))
    assert not [key for key in judge(c, s, ["min"], Sigmoid()).metrics if "first_error" in key or "steps" in key]


def test_curves_have_one_row_per_problem(judgement: Judgement, candidates: CandidateSet) -> None:
    assert {curve.shape for curve in judgement.curves.values()} == {(4, 4)}
    assert {len(values) for values in judgement.scores.values()} == {len(candidates.source)}
