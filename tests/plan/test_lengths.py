"""Lengths and micro-batches, assumed and of data at hand, against what trains."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lit_prm.commands.plan.lengths import MicroBatch, lengths_of, longest_of, store_size
from lit_prm.data.batch import Encoded
from lit_prm.data.batching import Updates
from lit_prm.data.steps import Newline
from lit_prm.models.reference.store import LogpStore
from lit_prm.training.datamodule import RolloutDataModule
from tests.plan.planning import planned, setup_at


def rows(problems: int, width: int) -> list[Encoded]:
    step = np.zeros(width - 5, np.int32)
    return [Encoded(np.zeros(width, np.int32), 5, step, 1.0, i // 8, i) for i in range(8 * problems)]


@pytest.mark.parametrize("problems", [8, 9, 12, 100, 137])
@pytest.mark.parametrize(("batch_size", "cuts"), [(64, 8), (64, 3), (96, 8), (40, 4)])
def test_assumed_updates_are_cut_as_the_sampler_cuts_them(problems: int, batch_size: int, cuts: int) -> None:
    setup = replace(setup_at("8xh100"), batch_size=batch_size, ranks=cuts, max_length=20)
    assumed = lengths_of(
        {"root": ".", "train": "none", "tokenizer": "none"},
        setup,
        {"problems": problems, "prompt_tokens": 5, "response_tokens": 15},
    )
    for shares in (False, True):
        some = replace(setup, share_prompts=shares)
        assert assumed.longest(some) == longest_of(rows(problems, 20), some)
    assert assumed.problems == len(Updates(rows(problems, 20), batch_size).problems) // assumed.updates


def test_padding_is_planned_where_it_is_computed() -> None:
    packed, padded = (setup_at("tiny", f"--model.reward_model.init_args.attention={a}") for a in ("auto", "sdpa"))
    uneven = [*rows(1, 20)[:7], Encoded(np.zeros(100, np.int32), 5, np.zeros(95, np.int32), 1.0, 0, 7)]
    one = {"batch_size": 8, "accumulate": 1, "share_prompts": False}
    assert longest_of(uneven, replace(packed, **one)) == MicroBatch(7 * 20 + 100, 7 * 15 + 95)  # type: ignore[arg-type]
    assert longest_of(uneven, replace(padded, **one)) == MicroBatch(8 * 100, 7 * 15 + 95, 8)  # type: ignore[arg-type]


def test_what_is_not_stored_needs_to_know_how_many_responses_a_problem_has() -> None:
    setup = setup_at("1xh100", "--data.responses=null")
    with pytest.raises(ValueError, match=r"for example --data\.responses 8"):
        lengths_of({"root": ".", "train": "none", "tokenizer": "none"}, setup, {})


def test_lengths_are_those_of_the_data_at_hand(micro_world: Path) -> None:
    """Also where a file has as many responses as it has."""
    overrides = ["--data.world=null", f"--data.root={micro_world}", "--data.batch_size=16"]
    overrides += ["--trainer.accumulate_grad_batches=1", "--data.responses=null", "--data.share_prompts=false"]
    found = planned("ce-8resp", "tiny", *overrides).numbers
    data = RolloutDataModule(
        tokenizer=str(micro_world / "models" / "base"), train="rollouts/train.jsonl", root=str(micro_world),
        steps=Newline(), responses=8, batch_size=16, max_length=256,
    )  # fmt: skip
    data.setup("fit")
    counted = data.spent()
    assert found["responses"] == counted["rollout_responses"]
    assert found["tokens_per_epoch"] == counted["rollout_prompt_tokens"] + counted["rollout_response_tokens"]
    updates: Updates = data.train_dataloader().sampler  # type: ignore[assignment]
    assert found["updates"] == updates.updates
    batches = list(data.train_dataloader())
    assert found["longest_micro_batch_tokens"] == max(int(batch.length.sum()) for batch in batches)
    overrides.append("--model.reward_model.init_args.attention=eager")
    padded = planned("ce-8resp", "tiny", *overrides).numbers
    assert padded["longest_micro_batch_tokens"] == max(batch.ids.numel() for batch in batches)
    assert padded["longest_micro_batch_tokens"] > found["longest_micro_batch_tokens"]


@pytest.mark.parametrize(
    ("scale", "parameters"), [("tiny", 391_680), pytest.param("smol", 134_515_008, marks=pytest.mark.slow)]
)
def test_nothing_must_be_there(scale: str, parameters: int) -> None:
    """No model, tokenizer or data yet, as in a fresh clone."""
    found = planned("ce-8resp", scale)
    assert found.numbers["parameters"] == parameters
    assert "assumed" in found.numbers["lengths_from"]
    setup = setup_at(scale)
    assert found.numbers["tokens_per_epoch"] <= found.numbers["responses"] * setup.max_length


def test_a_store_takes_what_one_takes(tmp_path: Path) -> None:
    lengths = [20, 300, 900, 5000] * 100
    store = LogpStore(str(tmp_path / "store.sqlite"))
    store.write((i.to_bytes(4) * 8, np.zeros(n, np.float32)) for i, n in enumerate(lengths))
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    taken = (tmp_path / "store.sqlite").stat().st_size
    assert store_size(lengths, 400) == pytest.approx(taken, rel=0.15)
    assert store_size(lengths, 40_000) == pytest.approx(100 * taken, rel=0.15)
