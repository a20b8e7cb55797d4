"""bfloat16 where it is fast: asked for in a config file, computed alike by stored and live references."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from transformers import PreTrainedTokenizerFast

from lit_prm.commands import precision as precision_module
from lit_prm.data.batch import Batch, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.models.reference import Frozen, Stored
from tests.integration.conftest import BRIEF, REPOSITORY, Desk, summary

RESOLVED = {"trainer": {"precision": "${fast_precision:${trainer.accelerator}}"}}


@pytest.fixture(scope="module")
def batch(tokenizer: PreTrainedTokenizerFast) -> Batch:
    rollouts = tuple(Rollout(response=r, correct=True) for r in ("14", "7 * 2 = 14", "Step 1: no", "7"))
    problem = Problem(prompt="What is 2 * (3 + 4)?", id="p")
    return collate(Encoder(tokenizer, BlankLine()).encode([Group(problem=problem, rollouts=rollouts)]))


@pytest.mark.parametrize(
    ("fast", "precision"), [(True, "bf16-mixed"), pytest.param(False, "32-true", marks=pytest.mark.slow)]
)
def test_the_resolver_sets_the_precision_of_the_run(
    fast: bool, precision: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "cpu_has_bf16", lambda: fast)
    run = desk.exp("ce-1resp", desk.config("precision", RESOLVED), *BRIEF)
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == precision
    assert summary(run)["status"] == "FINISHED"


def test_smol_asks_for_it() -> None:
    scale = yaml.safe_load((REPOSITORY / "experiments" / "scale" / "smol.yaml").read_text())
    assert scale["trainer"]["precision"] == RESOLVED["trainer"]["precision"]


def test_a_store_keeps_precisions_apart(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    path = str(tmp_path / "r.sqlite")
    full = Stored(str(reference_folder), path).logps(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = Stored(str(reference_folder), path)
        alone = Stored(str(reference_folder), str(tmp_path / "half.sqlite")).logps(batch)
        assert torch.equal(half.logps(batch), alone)
        assert half.misses == len(batch.ids)
        live = Frozen(str(reference_folder)).logps(batch)  # in another layout: it may round otherwise, but seldom
    assert (alone - live).norm() < (full - live).norm() / 2
    again = Stored(str(reference_folder), path)
    assert torch.equal(again.logps(batch), full)
    assert again.misses == 0


def test_a_store_is_filled_in_the_precision_it_is_read_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling does all the work: nothing is missing when training reads."""
    read_misses = []
    logps = Stored.logps

    def watched(self: Stored, batch: Batch) -> torch.Tensor:
        before = self.misses
        found = logps(self, batch)
        read_misses.append(self.misses - before)
        return found

    monkeypatch.setattr(Stored, "logps", watched)
    desk.exp("ce-1resp", "--trainer.precision=bf16-mixed", *BRIEF)
    assert read_misses
    assert sum(read_misses) == 0
