from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lit_prm.encoding import Batch, Encoder, collate
from lit_prm.records import Group, Problem, Rollout
from lit_prm.reference import Frozen, Stored, Uniform
from lit_prm.steps import BlankLine

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batch(tokenizer: PreTrainedTokenizerFast) -> Batch:
    rollouts = tuple(Rollout(response=r, correct=True) for r in ("14", "7 * 2 = 14", "Step 1: no", "7"))
    problem = Problem(prompt="What is 2 * (3 + 4)?", id="p")
    return collate(Encoder(tokenizer, BlankLine()).encode([Group(problem=problem, rollouts=rollouts)]))


def test_stored_equals_frozen_bit_for_bit(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    live = Frozen(str(reference_folder)).logps(batch)
    assert torch.equal(stored.logps(batch), live)
    assert torch.equal(stored.logps(batch), live)
    assert not live.requires_grad


def test_a_full_store_never_loads_the_model(
    reference_folder: Path, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "r.sqlite")
    first = Stored(str(reference_folder), path)
    first.prepare([batch], CPU)
    assert (first.hits, first.misses) == (0, 4)
    monkeypatch.setattr("lit_prm.reference.load_model", lambda *_: pytest.fail("loaded the reference"))
    second = Stored(str(reference_folder), path)
    second.prepare([batch], CPU)
    assert (second.hits, second.misses) == (4, 0)
    second.logps(batch)


def test_a_store_keeps_references_apart(
    reference_folder: Path, policy_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    path = str(tmp_path / "r.sqlite")
    a, b = (Stored(str(folder), path).logps(batch) for folder in (reference_folder, policy_folder))
    assert not torch.allclose(a, b)


def test_only_missing_responses_are_computed(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    head = Batch(*(field[:2] for field in batch))
    stored.prepare([head], CPU)
    stored.prepare([batch], CPU)
    assert (stored.hits, stored.misses) == (2, 4)
    assert torch.allclose(stored.logps(batch), Frozen(str(reference_folder)).logps(batch), atol=1e-5)


def test_uniform_is_zero(batch: Batch) -> None:
    assert Uniform().logps(batch).abs().max() == 0
