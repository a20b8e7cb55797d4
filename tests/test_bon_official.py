from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.reports.best_of_n.command import main
from lit_prm.reports.best_of_n.official import official, official_scores
from lit_prm.reports.best_of_n.pool import CandidatePool, Opinion
from lit_prm.scoring.rewards import Rewards
from tests.bon_files import write_scored
from tests.official_bon import Record, evaluate

BETA = 0.5
COUNTS = (1, 2, 4, 8, 16)


def drawn(
    seed: int, problems: int = 50, k: int = 16, beta: float | None = BETA
) -> tuple[CandidatePool, list[list[Record]]]:
    """Coarse log-ratios, so that scores tie; answers of which some are missing, some right ones too."""
    rng = np.random.default_rng(seed)
    groups, rewards, records = [], [], []
    for p in range(problems):
        steps = [(rng.integers(-3, 3, rng.integers(1, 5)) * 64.0).tolist() for _ in range(k)]
        answers = [[None, "7", "7.0", "8", "9", "10"][rng.integers(6)] for _ in range(k)]
        right = [rng.random() < {"7": 0.9, "7.0": 1.0, None: 0.1}.get(a, 0.0) for a in answers]
        said = [Rollout(response="?" if a is None else f"\\boxed{{{a}}}", correct=r, answer=a)
                for a, r in zip(answers, right, strict=True)]  # fmt: skip
        groups.append(Group(problem=Problem(prompt=f"{p}?", id=f"p{p}", answer="7"), rollouts=tuple(said)))
        rewards.append(tuple(_rewards([x * (beta or 1) for x in s]) for s in steps))
        scale = 0.001 if beta else 1.0
        records.append([Record(a, r, [x * scale for x in s]) for a, r, s in zip(answers, right, steps, strict=True)])
    identity = {} if beta is None else {"beta": beta}
    return CandidatePool("drawn", ("drawn",), tuple(groups), (Opinion("prm", identity, tuple(rewards)),)), records


def _rewards(steps: list[float]) -> Rewards:
    values = tuple(np.cumsum(steps).tolist())
    spans = tuple((0, 0) for _ in steps)
    return Rewards(
        reward=values[-1], step_spans=spans, step_rewards=tuple(steps), step_values=values, tokens=len(steps)
    )


@pytest.mark.parametrize("seed", range(6))
def test_it_equals_the_slow_restatement_of_the_paper_s_script(seed: int) -> None:
    pool, records = drawn(seed)
    told = official(pool)
    unscored, scored = told[""], told["prm"]
    for n in COUNTS:
        for name, which, accumulative in (
            ("single min", "min", False), ("single sum", "sum", False),
            ("accumulative min", "min", True), ("accumulative sum", "sum", True),
        ):  # fmt: skip
            slow = evaluate(records, ["7"] * len(records), n, which, accumulative)
            assert unscored["any of the first N"][n] == slow["pass"]
            assert unscored["self-consistency"][n] == slow["sc"]
            assert scored[f"best of N, {name}"][n] == slow["bon"], (name, n)
            assert scored[f"weighted vote, {name}"][n] == slow["weighted"], (name, n)
    assert tuple(unscored["self-consistency"]) == COUNTS


def test_the_drawn_cases_hold_the_quirks() -> None:
    """Otherwise the equality above would not see them: ties, None that wins, right ones without an answer."""
    pool, _ = drawn(0)
    (scores,) = (official_scores(o)["single min"] for o in pool.opinions)
    assert sum(s.count(max(s)) > 1 for s in scores) > 10
    answers = [[("7" if r.correct else str(r.answer)) for r in g.rollouts] for g in pool.groups]
    assert any(max(set(a[:4]), key=a[:4].count) == "None" for a in answers)
    assert any(r.correct and r.answer is None for g in pool.groups for r in g.rollouts)


def one(*candidates: tuple[str | None, bool, float], beta: float | None = BETA) -> CandidatePool:
    rollouts = tuple(Rollout(response=f"it {i}", correct=c, answer=a) for i, (a, c, _) in enumerate(candidates))
    group = Group(problem=Problem(prompt="?", id="p", answer="7"), rollouts=rollouts)
    identity = {} if beta is None else {"beta": beta}
    opinion = Opinion("prm", identity, (tuple(_rewards([s]) for _, _, s in candidates),))
    return CandidatePool("one", ("one",), (group,), (opinion,))


def test_right_answers_are_merged_with_the_gold_one_and_none_may_win() -> None:
    split_right = one(("8", False, 0.0), ("8", False, 0.0), ("7", True, 0.0), ("7.0", True, 0.0), ("14/2", True, 0.0))
    assert official(split_right)[""]["self-consistency"][4] == 0.0  # 8 was seen first
    unparsed = one((None, False, 0.0), (None, False, 0.0), ("7", True, 0.0))
    assert official(unparsed)[""]["self-consistency"] == {1: 0.0, 2: 0.0}
    assert official(unparsed)["prm"]["weighted vote, single min"] == {1: 0.0, 2: 0.0}


def test_consistency_is_judged_by_the_winner_s_first_response_and_votes_by_its_text() -> None:
    told = official(one(("7", False, 0.0), ("7", True, 0.0), ("8", False, 0.0)))  # a label that grades 7 wrong
    assert told[""]["self-consistency"][2] == 0.0
    assert told["prm"]["weighted vote, single min"][2] == 100.0


def test_only_the_first_n_are_seen_and_the_earliest_of_equals_is_taken() -> None:
    told = official(one(("7", True, 1.0), ("8", False, 1.0), ("8", False, 9.0), ("9", False, 9.0)))
    assert told["prm"]["best of N, single min"] == {1: 100.0, 2: 100.0, 4: 0.0}


def test_weights_are_sigmoids_of_a_thousandth_of_raw_scores_for_implicit_rewards_only() -> None:
    near = [("7", True, -1000 * BETA), ("7", True, -1000 * BETA), ("8", False, 500 * BETA)]
    assert official(one(*near))["prm"]["weighted vote, single min"][2] == 100.0
    scores = official_scores(one(*near).opinions[0])["single min"][0]
    assert scores == pytest.approx([-1.0, -1.0, 0.5])
    raw = one(("7", True, 0.4), ("8", False, 0.5), beta=None)  # a baseline: its own numbers
    assert official(raw)["prm"]["weighted vote, single min"][2] == 0.0
    assert official_scores(raw.opinions[0])["single min"] == [[0.4, 0.5]]


def test_a_missing_reference_is_refused() -> None:
    pool = one(("7", True, 0.0))
    group = Group(problem=Problem(prompt="?", id="p9"), rollouts=pool.groups[0].rollouts)
    with pytest.raises(ValueError, match=r"problem p9 has no reference answer.*Fill the column reference"):
        official(CandidatePool("x", ("x",), (group,), ()))


def test_the_command_says_that_it_is_not_comparable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, _ = drawn(0, problems=4, k=8)
    path = write_scored(tmp_path / "prm.jsonl", pool.groups, pool.opinions[0].rewards, {"beta": BETA})
    main([path, "--compat", "official", "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "official protocol (compat)" in printed
    assert "not comparable" in printed.replace("\n", " ")
    assert max(map(len, printed.splitlines())) <= Console().width
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["protocol"].startswith("official (compat), not comparable")
    assert told["accuracy_percent"]["prm"].keys() == official(pool)["prm"].keys()
    with pytest.raises(ValueError, match="Leave out --figure, --pairs, --counts"):
        main([path, "--compat", "official", "--pairs"])
