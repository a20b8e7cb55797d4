"""What is scored is written and read again; files that are not scored say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lit_prm.data.formats import read_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import aligned, is_scored, read_scored, scored_row, shortfalls

GROUP = Group(
    problem=Problem(prompt="1+1?", id="a", answer="2", subject="sums", level=1),
    rollouts=(Rollout(response="One.\n\nTwo.", correct=True, answer="2"), Rollout(response="Drei", correct=False)),
)
REWARDS = (
    Rewards(
        reward=0.75, step_spans=((0, 6), (6, 10)), step_rewards=(1.0, -0.25), step_values=(1.0, 0.75), tokens=3,
        reference_logps=(-1.0, -2.0), token_spans=((0, 6), (6, 10), (10, 10)), token_rewards=(1.0, -0.5, 0.25),
    ),
    Rewards(
        reward=-2.0, step_spans=((0, 4),), step_rewards=(None,), step_values=(None,), tokens=0, truncated=True,
        reference_logps=(None,),
    ),
)  # fmt: skip
IDENTITY = {"policy": "p", "reference": "r", "beta": 0.05, "aggregate": "min"}


def saved(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    source = saved(tmp_path / "scored.jsonl", scored_row(GROUP, REWARDS, IDENTITY))
    found = read_scored(source)
    assert (found.groups, found.rewards, found.identity) == ((GROUP,), (REWARDS,), IDENTITY)
    assert is_scored(source)


def test_a_scored_file_is_a_file_of_rollouts(tmp_path: Path) -> None:
    source = saved(tmp_path / "scored.jsonl", scored_row(GROUP, REWARDS, IDENTITY))
    assert read_groups(source).groups == (GROUP,)


def test_scores_are_the_aggregates_of_step_rewards() -> None:
    row = scored_row(GROUP, REWARDS, IDENTITY)
    assert row["scores"][0] == {
        "min": -0.25, "sum": 0.75, "mean": 0.375, "last": -0.25, "product": pytest.approx(0.32007, abs=1e-5),
        "mean-probability": pytest.approx(0.58444, abs=1e-5),
    }  # fmt: skip
    assert set(row["scores"][1].values()) == {None}


def test_an_unscored_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    source = saved(tmp_path / "plain.jsonl", {"prompt": "1+1?", "completions": ["2"], "correctness": [True]})
    assert not is_scored(source)
    with pytest.raises(ValueError, match=r"plain.jsonl:1: column 'rewards' is missing.*lit_prm score"):
        read_scored(source)


def test_rows_of_two_scorers_are_refused(tmp_path: Path) -> None:
    rows = [scored_row(GROUP, REWARDS, IDENTITY), scored_row(GROUP, REWARDS, {**IDENTITY, "beta": 1.0})]
    with pytest.raises(ValueError, match=r"jsonl:2: the row's scorer .* one file per scorer"):
        read_scored(saved(tmp_path / "two.jsonl", *rows))


def test_spoilt_rewards_are_refused_with_their_place(tmp_path: Path) -> None:
    row = scored_row(GROUP, REWARDS, IDENTITY)
    row["step_rewards"][0] = [1.0]
    with pytest.raises(ValueError, match=r"jsonl:1: rewards of response 0 .* 2 step spans, 1 step rewards"):
        read_scored(saved(tmp_path / "bad.jsonl", row))


@pytest.mark.parametrize("number", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("column", ["rewards", "step_rewards", "step_values", "reference_logps", "token_rewards"])
def test_what_is_no_number_is_no_reward(tmp_path: Path, column: str, number: float | None) -> None:
    row = scored_row(GROUP, REWARDS, IDENTITY)
    row[column][0] = number if column == "rewards" else [number, *row[column][0][1:]]
    ((first, second),) = read_scored(saved(tmp_path / "bad.jsonl", row)).rewards
    name = "reward" if column == "rewards" else column
    whole = getattr(REWARDS[0], name)
    changed: dict[str, Any] = {name: None if column == "rewards" else (None, *whole[1:])}
    assert first == replace(REWARDS[0], **changed)
    assert second == REWARDS[1]


def test_what_scores_lack_is_told() -> None:
    cut = replace(REWARDS[0], truncated=True, step_rewards=(1.0, None))
    unknown = replace(REWARDS[0], reward=None, step_rewards=(None, None))
    steps = len(REWARDS[0].step_rewards)
    assert shortfalls([[REWARDS[0], cut], [unknown]]) == [
        "1 of 3 responses are longer than max_length and scored up to there", f"3 of {3 * steps} steps have no reward",
        "1 of 3 responses have rewards that are no numbers: null",
    ]  # fmt: skip
    assert shortfalls([REWARDS[:1]]) == []


def test_files_are_aligned_by_problem_and_response(tmp_path: Path) -> None:
    other = replace(GROUP, problem=replace(GROUP.problem, id="b"))
    rows = [scored_row(g, REWARDS, IDENTITY) for g in (GROUP, other)]
    turned = [scored_row(g.keep((1, 0)), REWARDS[::-1], IDENTITY) for g in (other, GROUP)]
    first = read_scored(saved(tmp_path / "first.jsonl", *rows))
    found = aligned(first, read_scored(saved(tmp_path / "turned.jsonl", *turned)))
    assert (found.groups, found.rewards) == (first.groups, first.rewards)
    with pytest.raises(ValueError, match=r"different problems: 1 are in one of them only, e\.g\. 'b'"):
        aligned(first, read_scored(saved(tmp_path / "fewer.jsonl", *rows[:1])))
    with pytest.raises(ValueError, match=r"doubled\.jsonl: two rows have the same unique_id"):
        aligned(read_scored(saved(tmp_path / "doubled.jsonl", *rows, rows[0])), first)


def test_every_response_needs_its_rewards() -> None:
    with pytest.raises(ValueError, match="1 rewards for 2 responses"):
        scored_row(GROUP, REWARDS[:1], IDENTITY)
