"""The threshold never sees what it judges; every branch of the protocol by hand; the command from items to numbers."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_prm.commands.main import main as cli
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.evaluation.first_error import Known, f1, first_below, halves
from lit_prm.reports.processbench.guesses import GUESSES, AlwaysGuess, CommonestPlace, UniformGuess
from lit_prm.reports.processbench.items import (
    SUBSETS,
    ItemFilter,
    chosen_items,
    default_data,
    sampled,
    score_subset,
    with_step_numbers,
)
from lit_prm.reports.processbench.protocol import average, choose_threshold, judge, judge_subset, minimum
from lit_prm.reports.processbench.report import as_numbers
from lit_prm.reports.processbench.subset import PREFIX_VALUES, READINGS, STEP_REWARDS, StepScores, Subset
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import ScoredGroups, read_scored

Numbers = Sequence[float | None]


def item(number: int, first_error: int, sizes: int = 3, prompt: str | None = None) -> Group:
    steps = (*(f"step {i} of {number}\n\n" for i in range(sizes - 1)), "so it is 7")
    rollout = Rollout(response="".join(steps), steps=steps, correct=first_error < 0, first_error=first_error)
    return Group(problem=Problem(prompt=prompt or f"Problem {number}?", id=f"p-{number}"), rollouts=(rollout,))


def rewards(steps: Numbers, group: Group, **given: Any) -> Rewards:
    """Of the group's only response: step rewards as given, values their running sums."""
    ends = np.cumsum([0, *map(len, group.rollouts[0].steps or ())]).tolist()
    values = np.cumsum([x or 0.0 for x in steps]).tolist()
    return Rewards(
        reward=values[-1],
        step_spans=tuple(pairwise(ends)),
        step_rewards=tuple(steps),
        step_values=tuple(None if x is None else v for x, v in zip(steps, values, strict=True)),
        tokens=ends[-1],
        **given,
    )


def subset(name: str, *cases: tuple[Numbers, int], source: str = "made up") -> Subset:
    """Of (step rewards, first error) of each response."""
    groups = tuple(item(i, error, len(steps)) for i, (steps, error) in enumerate(cases))
    made = tuple((rewards(steps, g),) for (steps, _), g in zip(cases, groups, strict=True))
    return Subset.of(name, ScoredGroups(source, groups, made, {}))


def drawn(name: str, seed: int, count: int = 60) -> Subset:
    rng = np.random.default_rng(seed)
    errors = [int(rng.integers(-1, 4)) for _ in range(count)]
    return subset(name, *((rng.normal(size=4).round(2).tolist(), e) for e in errors))


def scores_of(of: Subset) -> StepScores:
    found = of.scores(STEP_REWARDS)
    assert found is not None
    return found


# --- laws -----------------------------------------------------------------------------------------


def relabelled(of: Subset, seed: int) -> Subset:
    """The same responses and rewards with other labels."""
    labels = np.random.default_rng(seed).integers(-1, 4, len(of.rewards))
    return replace(of, labels=of.labels._replace(first_error=labels.astype(np.intp)))


def test_no_label_of_a_reported_subset_moves_the_threshold() -> None:
    chosen, others = drawn("gsm8k", 0), [drawn("math", 1), drawn("omnimath", 2)]
    results = judge([chosen, *others], "gsm8k")
    moved = judge([chosen, *(relabelled(o, 9) for o in others)], "gsm8k")
    for reading in ("step rewards", "prefix values"):
        thresholds = {of.threshold for run in (results, moved) for of in run.judged[reading].values()}
        assert len(thresholds) == 1
    assert results.judged["step rewards"]["math"].result.hits != moved.judged["step rewards"]["math"].result.hits
    elsewhere = judge([relabelled(chosen, 5), *others], "gsm8k")
    assert elsewhere.judged["step rewards"]["math"].threshold not in thresholds  # the choosing one's labels do


def test_no_reward_of_a_reported_subset_moves_the_threshold() -> None:
    chosen = drawn("gsm8k", 0)
    one, other = (judge([chosen, drawn("math", seed)], "gsm8k") for seed in (1, 2))
    assert one.judged["step rewards"]["math"].threshold == other.judged["step rewards"]["math"].threshold


def test_on_the_choosing_subset_a_half_is_judged_by_the_other_half_alone() -> None:
    of = drawn("gsm8k", 3, count=80)
    scores, (_, truth, problem) = scores_of(of), of.labels
    found = judge([of], "gsm8k").judged["step rewards"]["gsm8k"]
    assert found.chosen_here
    assert found.cross_fitted is not None
    predicted = np.empty(80, int)
    for mine in (halves(problem), ~halves(problem)):
        other = StepScores(scores.values[~mine], scores.valid[~mine], scores.sizes[~mine])
        threshold = choose_threshold(other, Known(np.flatnonzero(~mine), truth[~mine], problem[~mine]))
        predicted[mine] = first_below(scores.values[mine], scores.valid[mine], threshold)
    assert found.cross_fitted.hits.f1 == pytest.approx(f1(predicted, truth))
    assert found.cross_fitted.hits.f1 < found.result.hits.f1 == found.oracle.f1  # which saw what it judged


def test_the_oracle_is_an_upper_bound() -> None:
    results = judge([drawn("gsm8k", 0), drawn("math", 1), drawn("omnimath", 2)], "gsm8k")
    for of in results.judged.values():
        assert all(judged.oracle.f1 >= judged.result.hits.f1 for judged in of.values())


def test_adding_a_constant_to_every_step_reward_moves_only_the_threshold() -> None:
    of = drawn("gsm8k", 4)
    scores = scores_of(of)
    moved = scores._replace(values=scores.values + 3)
    one, other = (judge_subset(s, of.labels, choose_threshold(s, of.labels)) for s in (scores, moved))
    assert other.threshold == pytest.approx(one.threshold + 3)
    assert (other.result.hits, other.auc, other.auc_within) == (one.result.hits, one.auc, one.auc_within)


# --- by hand, branch by branch --------------------------------------------------------------------

RIGHT = ((1.0, 1.0, 1.0), -1)


@pytest.mark.parametrize(
    ("cases", "threshold", "error_acc", "correct_acc", "expected"),
    [
        ([((1, -1, 1), 1), ((-1, 1), 0), RIGHT], 0, 1, 1, 1),  # all hit
        ([((1, -1, 1), 1), ((1, 1, 1), 2), RIGHT, RIGHT], 0, 1 / 2, 1, 2 / 3),  # one missed
        ([((-1, -2, 1), 1), RIGHT], 0, 0, 1, 0),  # found, but a step too early
        ([((1, -1, -2), 1), RIGHT], 0, 1, 1, 1),  # what follows the first low step does not count
        ([((1, 1), 0), ((1, -1), -1)], 0, 0, 0, 0),  # none hit
        ([((1, -1), 1), ((-1, 1), 1)], 0, 1 / 2, None, None),  # no right response
        ([RIGHT, ((1, -1), -1)], 0, None, 1 / 2, None),  # no wrong response
        ([((1, 0, -1), 2), ((0, 0), -1)], 0, 1, 1, 1),  # equal to the threshold is not below it
        ([((1, 0, -1), 2), ((0, 0), -1)], 0.5, 0, 0, 0),
        ([((None, -1, 1), 1), RIGHT], 0, 1, 1, 1),  # a step without a reward is never named,
        ([((1, None, -1), 1), RIGHT], 0, 0, 1, 0),  # nor found when it is the wrong one,
        ([((None, None), 0), ((None, None), -1), RIGHT, ((1, -1), 1)], 0, 1 / 2, 1, 2 / 3),  # and none is no error
        ([((1, 1, None, None), 3), ((1, None), -1)], 0, 0, 1, 0),  # an error beyond the cut is missed
    ],
)
def test_accuracies_and_f1_by_hand(
    cases: list[tuple[Numbers, int]], threshold: float, error_acc: float | None, correct_acc: float, expected: float
) -> None:
    of = subset("s", *cases)
    hits = judge_subset(scores_of(of), of.labels, threshold).result.hits
    found = (hits.error_acc, hits.correct_acc, hits.f1)
    wanted = tuple(np.nan if x is None else x for x in (error_acc, correct_acc, expected))
    assert found == pytest.approx(wanted, nan_ok=True)


def test_the_chosen_threshold_by_hand() -> None:
    """Rewards 0.2 and 0.8 part the kinds: halfway 0.5 is chosen, and applied to the other subset."""
    chosen = subset("gsm8k", ((0.9, 0.2), 1), ((0.8, 0.9), -1))
    other = subset("math", ((0.6, 0.4), 1), ((0.7, 0.45), -1), ((0.9, 0.9), -1))
    found = judge([chosen, other], "gsm8k").judged["step rewards"]["math"]
    assert found.threshold == pytest.approx(0.5)
    assert not found.chosen_here
    assert (found.result.hits.error_acc, found.result.hits.correct_acc) == (1.0, 0.5)
    assert found.oracle_threshold == pytest.approx(0.425)
    assert found.oracle.f1 == 1.0


def test_a_given_threshold_judges_beside_the_chosen_one_by_hand() -> None:
    """Log-odds 0 is probability 0.5: the first step below it is wrong."""
    chosen = subset("gsm8k", RIGHT, ((1.0, -0.5, -1.0), 1), source="made up")
    other = subset("math", ((0.5, -0.1, 2.0), 1), ((0.5, 0.2, -3.0), 1), ((1.0, 1.0, 0.1), -1))
    found = judge([chosen, other], "gsm8k", fixed=0.0)
    fixed = found.judged["step rewards"]["math"].fixed
    assert fixed is not None
    assert (fixed.hits.error_acc, fixed.hits.correct_acc) == (0.5, 1.0)
    numbers = as_numbers(found)["readings"]["step rewards"]
    assert numbers["math"]["fixed_f1"] == pytest.approx(2 / 3)
    assert numbers["average_of_others"]["fixed_f1"] == pytest.approx(2 / 3)
    assert "fixed_f1" not in as_numbers(found)["readings"]["shorter steps"]["math"]
    assert "fixed_f1" not in as_numbers(judge([chosen, other], "gsm8k"))["readings"]["step rewards"]["math"]


def test_step_auc_by_hand() -> None:
    """Right steps 3, 1 | 5, 5; first wrong ones 2 and 9; the step after an error is in no pair."""
    of = subset("s", ((3.0, 1.0, 2.0), 2), ((5.0, 5.0), -1), ((9.0, -9.0), 0))
    found = judge_subset(scores_of(of), of.labels, 0.0)
    assert found.auc == pytest.approx((3 + 0) / 8)  # above 2: 3, 5, 5; above 9: none
    assert found.auc_within == pytest.approx(1 / 2)


def test_where_the_lowest_step_lies_by_hand() -> None:
    of = subset("s", ((1.0, 0.0, 2.0), 1), ((1.0, 0.0, 0.0), 2), ((5.0, None, 4.0, 1.0), -1), ((7.0,), 0))
    found = minimum(scores_of(of), of.labels)
    assert found.in_last == pytest.approx((0 + 0.5 + 1 + 1) / 4)
    assert found.in_last_chance == pytest.approx((1 / 3 + 1 / 3 + 1 / 4 + 1) / 4)
    assert found.position == pytest.approx((0.5 + 0.75 + 1) / 3)  # of the responses that have a place to choose
    assert found.at_error == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.at_error_chance == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)


# --- guesses --------------------------------------------------------------------------------------


def test_guesses_by_hand() -> None:
    truth, sizes = np.array([0, 2, -1, -1]), np.array([2, 3, 1, 4])
    assert AlwaysGuess("right", -1).hit(truth, sizes).tolist() == [0, 0, 1, 1]
    assert AlwaysGuess("first", 0).hit(truth, sizes).tolist() == [1, 0, 0, 0]
    assert UniformGuess().hit(truth, sizes) == pytest.approx([1 / 3, 1 / 4, 1 / 2, 1 / 5])
    blamed = CommonestPlace(place=2, none=0.25)
    assert blamed.hit(np.array([2, 1, 1, -1]), np.array([3, 2, 3, 9])) == pytest.approx([0.75, 0.75, 0, 0.25])


def test_the_commonest_place_is_blamed_with_the_best_chance() -> None:
    truth = np.array([1, 1, 0, 2, 1, -1, -1])
    fitted = CommonestPlace().fitted(truth)
    assert fitted.place == 1
    share = 3 / 5
    chances = np.linspace(0.001, 0.999, 999)
    values = 2 * chances * (1 - chances) * share / (chances + (1 - chances) * share)
    assert fitted.none == pytest.approx(chances[values.argmax()], abs=1e-3)


def test_guesses_learn_from_the_choosing_subset_alone() -> None:
    chosen, other = drawn("gsm8k", 0), drawn("math", 1)
    for guess in GUESSES:
        fitted = guess.fitted(chosen.labels.first_error)
        hits = judge([chosen, other], "gsm8k").guessed[guess.name]["math"].hits
        assert hits.on_right == pytest.approx(
            fitted.hit(other.labels.first_error, other.sizes)[other.labels.first_error < 0].sum()
        )


# --- what is refused, what is left out ------------------------------------------------------------


def test_the_average_is_over_subsets_and_its_interval_around_it() -> None:
    results = judge([drawn("gsm8k", 0), drawn("math", 1)], "gsm8k")
    found = [of.result for of in results.judged["step rewards"].values()]
    mean = average(found)
    assert mean["f1"] == pytest.approx(np.mean([of.hits.f1 for of in found]))
    assert mean["f1/low"] < mean["f1"] < mean["f1/high"]


def test_readings_that_the_scorer_does_not_give_are_left_out() -> None:
    assert set(judge([drawn("gsm8k", 0)], "gsm8k").judged) == {"step rewards", "prefix values", "shorter steps"}
    heads = replace(drawn("gsm8k", 0))
    bare = tuple(replace(r, step_values=(None,) * len(r.step_values)) for r in heads.rewards)
    assert set(judge([replace(heads, rewards=bare)], "gsm8k").judged) == {"step rewards", "shorter steps"}
    with_reference = tuple(replace(r, reference_logps=r.step_rewards) for r in heads.rewards)
    found = judge([replace(heads, rewards=with_reference)], "gsm8k").judged
    assert set(found) == {reading.name for reading in READINGS}
    assert found["reference log-likelihood"]["gsm8k"].result.hits == found["step rewards"]["gsm8k"].result.hits


def test_prefix_values_are_the_values_at_step_ends() -> None:
    of = subset("s", ((1.0, -3.0, 1.0), 1), RIGHT)
    found = of.scores(PREFIX_VALUES)
    assert found is not None
    assert found.values[0].tolist() == [1.0, -2.0, -1.0]


def test_truncated_responses_count_and_are_told() -> None:
    groups = (item(0, 2), item(1, -1))
    made = ((rewards((1.0, 1.0, None), groups[0], truncated=True),), (rewards((1.0, 1.0, 1.0), groups[1]),))
    of = Subset.of("s", ScoredGroups("x", groups, made, {}))
    assert (of.truncated, of.errors_without_score) == (1, 1)
    sizes = as_numbers(judge([of], "s"))["subsets"]["s"]
    assert sizes == {"items": 2, "wrong": 1, "right": 1, "truncated": 1, "errors_without_score": 1, "without_reward": 0}


def test_scores_of_other_steps_than_the_labels_count_are_refused() -> None:
    group = item(0, 1, 3)
    with pytest.raises(
        ValueError, match=r"p-0 was scored in 2 steps, but its label counts 3. Score it by its own steps"
    ):
        Subset.of("s", ScoredGroups("x", (group,), ((rewards((1.0, 1.0), item(0, 1, 2)),),), {}))
    unknown = replace(group, rollouts=(replace(group.rollouts[0], first_error=None),))
    with pytest.raises(ValueError, match="has no labelled first error"):
        Subset.of("s", ScoredGroups("x", (unknown,), ((rewards((1.0, 1.0, 1.0), group),),), {}))


def test_a_choosing_subset_that_cannot_choose_is_refused() -> None:
    with pytest.raises(ValueError, match="'gsm8k', which is none of math"):
        judge([drawn("math", 0)], "gsm8k")
    with pytest.raises(ValueError, match="has no wrong or no right responses"):
        judge([subset("gsm8k", RIGHT, RIGHT)], "gsm8k")


# --- samples and dress ----------------------------------------------------------------------------


def test_a_sample_keeps_the_share_of_right_responses_and_the_order_of_the_file() -> None:
    groups = [item(i, 1 if i < 60 else -1) for i in range(100)]
    found = sampled(groups, 10, seed=0)
    errors = [g.rollouts[0].first_error for g in found]
    assert errors == [1] * 6 + [-1] * 4
    places = chosen_items(groups, 10, seed=0)
    assert places == sorted(set(places))
    assert places == chosen_items(groups, 10, seed=0) != chosen_items(groups, 10, seed=1)
    assert sampled(groups, None, 0) == sampled(groups, 100, 0) == tuple(groups)
    rare = [item(i, 1 if i else -1) for i in range(100)]
    assert [g.rollouts[0].first_error for g in sampled(rare, 5, 0)].count(-1) == 1  # both kinds are kept
    with pytest.raises(ValueError, match="limit is 1"):
        sampled(groups, 1, 0)


def test_step_numbers_leave_labels_and_tiling_alone() -> None:
    given = item(0, 1)
    (rollout,) = with_step_numbers(given).rollouts
    assert rollout.steps == ("Step 1: step 0 of 0\n\n", "Step 2: step 1 of 0\n\n", "Step 3: so it is 7")
    assert "".join(rollout.steps) == rollout.response
    assert rollout.first_error == given.rollouts[0].first_error


# --- the command ----------------------------------------------------------------------------------


class Fake(Scorer):
    """Rewards from a hash of each step's text; counts the groups it is asked for."""

    def __init__(self, name: str = "fake") -> None:
        self.identity = {"model": name, "aggregate": "min"}
        self.asked = 0

    def score(self, groups: Sequence[Group]) -> list[list[Rewards]]:
        self.asked += len(groups)
        return [[self._of(g)] for g in groups]

    def _of(self, group: Group) -> Rewards:
        steps = group.rollouts[0].steps or ()
        made = [int(sha256(s.encode()).hexdigest()[:4], 16) / 65536 - 0.5 for s in steps]
        return rewards(made, group, reference_logps=tuple(-len(s) for s in steps))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four small subsets as ProcessBench has them, wrong responses first."""
    for name in SUBSETS:
        rng = np.random.default_rng(len(name))
        rows = [
            {
                "id": f"{name}-{i}", "generator": "g", "problem": f"{name} {i}?",
                "steps": [f"{name} {i} {s}" for s in range(5)],
                "final_answer_correct": i >= 12, "label": int(rng.integers(5)) if i < 12 else -1,
            }
            for i in range(20)
        ]  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"processbench_{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def loaded_fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    from lit_prm.reports.processbench import command

    fake = Fake()
    monkeypatch.setattr(command, "loaded", lambda known, **more: fake)
    return fake


def run_json(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    cli(["processbench", *args, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_scores_once_and_reads_what_it_left(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake, out = loaded_fake(monkeypatch), tmp_path / "out"
    first = run_json(capsys, "some-model", "--data", str(data), "--out", str(out))
    assert fake.asked == 80
    assert json.loads((out / "processbench.json").read_text()) == first
    assert run_json(capsys, "some-model", "--data", str(data), "--out", str(out)) == first
    assert fake.asked == 80
    assert run_json(capsys, str(out)) == first  # a folder of scored files is enough
    gsm8k = first["readings"]["step rewards"]["gsm8k"]
    assert gsm8k["threshold_chosen_here"]
    assert gsm8k["f1"] == gsm8k["oracle_f1"]
    assert "cross_fitted_f1" in gsm8k
    assert "cross_fitted_f1" not in first["readings"]["step rewards"]["math"]
    f1s = [first["readings"]["prefix values"][name]["f1"] for name in SUBSETS]
    assert first["readings"]["prefix values"]["average"]["f1"] == pytest.approx(np.mean(f1s))


def test_a_limited_run_samples_and_keeps_apart_from_the_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake, out = loaded_fake(monkeypatch), tmp_path / "out"
    limited = run_json(capsys, "m", "--data", str(data), "--out", str(out), "--limit", "10")
    assert fake.asked == 40
    assert limited["subsets"]["math"]["wrong"] == 6
    whole = run_json(capsys, "m", "--data", str(data), "--out", str(out))
    assert whole["subsets"]["math"]["items"] == 20
    again = run_json(capsys, str(out), "--limit", "10")
    assert again["readings"] == limited["readings"]


def test_official_format_scores_other_text(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded_fake(monkeypatch)
    out = tmp_path / "out"
    run_json(capsys, "m", "--data", str(data), "--out", str(out), "--compat", "official")
    (rollout,) = read_scored(str(out / "gsm8k-official.jsonl.gz")).groups[0].rollouts
    assert rollout.response.startswith("Step 1: gsm8k 0 0\n\nStep 2: ")


def test_tables_name_every_subset_the_literature_and_where_the_threshold_was_chosen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded_fake(monkeypatch)
    monkeypatch.setenv("COLUMNS", "160")
    cli(["processbench", "m", "--data", str(data), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    for words in (
        "gsm8k *",
        "omnimath",
        "oracle: each by its own",
        "each half by the other's",
        "always step 0",
        "random",
        "EurusPRM",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--choose", "aime"], "--choose aime is none of"),
        (["--subsets", "gsm8k", "aime"], "has no processbench_aime.jsonl.gz"),
    ],
)
def test_mistakes_are_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    args: list[str], message: str,
) -> None:  # fmt: skip
    loaded_fake(monkeypatch)
    with pytest.raises(SystemExit):
        cli(["processbench", "m", "--data", str(data), "--out", str(tmp_path / "o"), *args])
    assert message in capsys.readouterr().err


def test_scores_of_another_scorer_or_of_other_items_are_not_mixed_in(tmp_path: Path) -> None:
    items, file = tuple(item(i, -1) for i in range(3)), tmp_path / "s.jsonl.gz"
    score_subset(Fake(), items, file)
    with pytest.raises(ValueError, match="scores by another model"):
        score_subset(Fake("other"), items, file)
    with pytest.raises(ValueError, match="other problems, responses or steps"):
        score_subset(Fake(), items[:2], file)


def test_labels_are_those_of_the_items_not_of_the_scored_file(tmp_path: Path) -> None:
    file, fake = tmp_path / "s.jsonl.gz", Fake()
    score_subset(fake, (item(0, -1),), file)
    corrected = score_subset(fake, (item(0, 2),), file)
    assert corrected.groups[0].rollouts[0].first_error == 2
    assert fake.asked == 1


def test_items_come_from_the_local_folder_if_it_has_them_else_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIT_PRM_DATA", raising=False)
    assert default_data() == "Qwen/ProcessBench"
    monkeypatch.setenv("LIT_PRM_DATA", str(tmp_path))
    assert default_data() == "Qwen/ProcessBench"
    (tmp_path / "processbench_math.jsonl.gz").write_bytes(b"")
    assert default_data() == str(tmp_path)


# --- the real items -------------------------------------------------------------------------------


@pytest.mark.skipif("LIT_PRM_DATA" not in os.environ, reason="set LIT_PRM_DATA to the folder of real data")
@pytest.mark.parametrize(
    ("name", "count", "right"),
    [("gsm8k", 400, 193), ("math", 1000, 406), ("olympiadbench", 1000, 339), ("omnimath", 1000, 241)],
)
def test_the_real_items_have_their_known_sizes(name: str, count: int, right: int) -> None:
    """The numbers of items and of right responses that ProcessBench's authors publish (docs/facts.md)."""
    groups = ItemFilter().items(os.environ["LIT_PRM_DATA"], name)
    errors = [g.rollouts[0].first_error for g in groups]
    assert (len(errors), errors.count(-1)) == (count, right)
    assert sum(g.rollouts[0].first_error == -1 for g in sampled(groups, 100, 0)) == round(100 * right / count)


def test_options_of_a_scorer_are_refused_where_scores_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        score_subset(Fake(), tuple(item(i, i % 2 - 1) for i in range(4)), tmp_path / f"{name}.jsonl.gz")
    asked = ["processbench", str(tmp_path), "--subsets", "a", "b", "--choose", "a"]
    cli(asked)
    with pytest.raises(SystemExit, match="2"):
        cli([*asked, "--beta", "1", "--max-length", "99"])
    assert "--beta, --max-length would be ignored" in capsys.readouterr().err
