"""A reward that is no number is written as null, told, and read by every command; the other responses keep theirs."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_prm.data.batch import Batch
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.reports.best_of_n import command as bon
from lit_prm.reports.processbench import command as processbench
from lit_prm.reports.viewer import command as view
from lit_prm.scoring import command as score
from lit_prm.scoring.loading import load
from lit_prm.scoring.model_scorer import ModelScorer
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import scored_row

RIGHT, WRONG = Rollout(response="One.\n\nTwo.", correct=True), Rollout(response="Three.\n\nFour.", correct=False)
GROUPS = [Group(problem=Problem(prompt=f"{i}?", id=str(i)), rollouts=(RIGHT, WRONG)) for i in range(3)]


def test_a_response_without_numbers_costs_only_itself(
    tmp_path: Path, policy_folder: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source, out = tmp_path / "g.jsonl", tmp_path / "s.jsonl"
    write_groups(source, GROUPS)
    scorer = load(str(policy_folder), reference=str(reference_folder))
    assert isinstance(scorer, ModelScorer)
    good = scorer.score(GROUPS)
    spoilt = scorer.encoder.encode(GROUPS)[2].key  # the right response of the second problem
    compute = scorer.reward_model.forward

    def forward(batch: Batch) -> Tensor:
        keys = batch.keys()
        bad = torch.tensor([key == spoilt for key in keys])
        return compute(batch).masked_fill(bad[:, None], torch.nan)

    monkeypatch.setattr(scorer.reward_model, "forward", forward)
    monkeypatch.setattr(score, "loaded", lambda *_, **__: scorer)
    score.main([str(policy_folder), str(source), "--out", str(out)])
    told = capsys.readouterr().out
    assert "1 of 6 responses have rewards that are no numbers: null" in told
    assert "2 of 12 steps have no reward" in told
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert (rows[1]["rewards"][0], rows[1]["step_rewards"][0], set(rows[1]["token_rewards"][0])) == (
        None,
        [None] * 2,
        {None},
    )
    assert [row["rewards"] for row in (rows[0], rows[2])] == [[r.reward for r in of] for of in (good[0], good[2])]
    assert rows[1]["rewards"][1] == good[1][1].reward

    bon.main([str(out), "--json", str(tmp_path / "b.json")])
    assert "s: 1 of 6 responses have rewards that are no numbers" in capsys.readouterr().out
    view.main([str(out), "--out", str(tmp_path / "v.html")])
    score.main([str(policy_folder), str(source), "--out", str(out)])
    assert "holds these scores already" in capsys.readouterr().out


def test_processbench_and_the_official_protocol_count_nulls_and_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One response has no number at all, another none for its only wrong step."""
    number = itertools.count(1)
    groups = [
        Group(
            problem=Problem(prompt=f"{i}?", id=str(i), answer="2"),
            rollouts=tuple(replace(r, steps=("One.\n\n", "Two."), response="One.\n\nTwo.", first_error=e)
                           for r, e in ((RIGHT, -1), (WRONG, 1))),
        )
        for i in range(4)
    ]  # fmt: skip
    spans = ((0, 6), (6, 10))

    def rewards(first: float | None, second: float | None) -> Rewards:
        values = (first, second)
        whole = None if first is None else float(next(number))
        return Rewards(reward=whole, step_spans=spans, step_rewards=values, step_values=values, tokens=4)

    scored = [(rewards(1.0, 2.0), rewards(1.0, -1.0)) for _ in groups]
    scored[0] = (rewards(None, None), scored[0][1])
    scored[1] = (scored[1][0], rewards(1.0, None))
    rows = [scored_row(g, r, {"beta": 0.5, "aggregate": "min"}) for g, r in zip(groups, scored, strict=True)]
    file = tmp_path / "bench.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    bon.main([str(file), "--compat", "official", "--json", str(tmp_path / "b.json")])
    told = "1 of 8 responses have rewards that are no numbers: null"
    assert f"bench: {told}" in capsys.readouterr().out
    official = json.loads((tmp_path / "b.json").read_text())
    assert told in official["shortfalls"]["bench"]
    assert official["accuracy_percent"]["bench"]["best of N, single min"] == {"1": 100.0, "2": 75.0}

    processbench.main([str(tmp_path), "--subsets", "bench", "--choose", "bench"])
    assert "1 have rewards that are no numbers; 1 first errors have no score" in " ".join(
        capsys.readouterr().out.split()
    )
    found = json.loads((tmp_path / "processbench.json").read_text())["subsets"]["bench"]
    assert (found["items"], found["without_reward"], found["errors_without_score"]) == (8, 1, 1)
