"""A reward that is no number is written as null, told, and read by every command; the other responses keep theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_prm.data.batch import Batch
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.reports.best_of_n import command as bon
from lit_prm.reports.viewer import command as view
from lit_prm.scoring import command as score
from lit_prm.scoring.loading import load
from lit_prm.scoring.model_scorer import ModelScorer

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
