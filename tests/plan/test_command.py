"""`lit_prm plan`: every scale, its refusals, what makes a setup fit, and that data at hand are counted."""

from __future__ import annotations

import json
import sqlite3
from argparse import Namespace
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from lit_prm.batching import Updates
from lit_prm.cli import main
from lit_prm.data import RolloutDataModule
from lit_prm.experiment import options
from lit_prm.lightning_cli import resolved_config
from lit_prm.plan.command import Plan, devices, plan
from lit_prm.plan.lengths import MicroBatch, store_size
from lit_prm.plan.memory import memory
from lit_prm.plan.network import config_of, weights
from lit_prm.plan.remedies import remedies
from lit_prm.plan.setup import Setup, setup_of
from lit_prm.reference.store import LogpStore
from lit_prm.steps import Newline

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    monkeypatch.chdir(tmp_path)


_NOT_ASKED = ("shape", "device", "memory", "peak", "problems", "prompt_tokens", "response_tokens")


LLAMA = "--base_model=meta-llama/Llama-3.1-8B-Instruct"


@cache
def planned(name: str, scale: str, *overrides: str, problems: int | None = None) -> Plan:
    asked = dict.fromkeys(_NOT_ASKED) | {"mfu": 0.4, "name": name, "scale": scale, "problems": problems}
    return plan(Namespace(**asked), list(overrides))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "strategy", "fits"),
    [("1xh100", "one device", True), ("8xh100", "ZeRO-2", True), ("paper-8b", "ZeRO-3", True)],
)
def test_scales_for_gpus_fit(scale: str, strategy: str, fits: bool) -> None:
    found = planned("ce-8resp", scale)
    assert found.numbers["strategy"] == strategy
    assert found.numbers["fits"] is fits
    assert "fits" in found.verdict[0]


@pytest.mark.slow
def test_70b_trains_on_two_nodes_of_80_gb_with_its_optimizer_on_the_host_only() -> None:
    found = planned("ce-8resp", "paper-70b")
    assert found.numbers["training_fits"]
    assert not found.numbers["fits"]  # while the store is filled, which the last line says
    assert "store is filled" in found.verdict[-1]
    assert found.numbers["memory"]["ZeRO-3"]["total"] > found.available
    assert found.memory.on_host * 8 < 600e9


@pytest.mark.slow
def test_the_parts_add_up_and_alternatives_share_what_they_share() -> None:
    found = planned("ce-8resp", "8xh100")
    assert found.memory.total == sum(found.memory.parts.values())
    sizes = {name: m.weights + m.gradients + m.optimizer for name, m in found.alternatives.items()}
    assert sizes["DDP"] > sizes["ZeRO-1"] > sizes["ZeRO-2"] > sizes["ZeRO-3"]


def test_training_flops_are_those_that_costs_counts() -> None:
    """The example by hand of docs/costs.md: a prompt of 150 and a response of 450 tokens, Llama-3.1-8B."""
    found = planned("ce-8resp", "1xh100", LLAMA, problems=10)
    assert found.numbers["flops"]["training"] / 80 == pytest.approx(2.683e13, rel=1e-3)
    assert found.numbers["flops"]["reference"] / 80 == pytest.approx(8.943e12, rel=1e-3)
    total = found.numbers["flops"]["total"]
    assert found.numbers["hours"] == pytest.approx(total / (989e12 * 0.4 * 3600))


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_options_that_make_it_fit() -> None:
    found = planned("ce-8resp", "8xh100", "--model.reward_model.init_args.gradient_checkpointing=false")
    assert found.numbers["remedies"] == ["--model.reward_model.init_args.gradient_checkpointing true"]
    assert "gradient_checkpointing true" in found.verdict[0]


def test_remedies_add_up_and_end() -> None:
    setup = setup_at("8xh100")
    names = []

    def peak(of: Setup) -> int:
        names.append(of)
        return of.max_length + of.checkpointing * -10 + (4 - getattr(of.sharding, "stage", 0))

    plain = replace(setup, checkpointing=False)
    assert remedies(plain, 2050 - 10, peak) == ["--model.reward_model.init_args.gradient_checkpointing true"]
    many = remedies(plain, 1024 - 10 + 1, peak)
    assert many is not None
    assert {word.split()[0] for word in many} >= {"--trainer.strategy", "--data.max_length"}
    assert remedies(plain, 0, peak) is None


def test_lengths_are_those_of_the_data_at_hand(micro_world: Path) -> None:
    overrides = ["--data.world=null", f"--data.root={micro_world}", "--data.batch_size=16"]
    overrides.append("--trainer.accumulate_grad_batches=1")
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
    batches = [batch.ids.numel() for batch in data.train_dataloader()]
    assert found["longest_micro_batch_tokens"] == max(batches)


def test_a_store_takes_what_one_takes(tmp_path: Path) -> None:
    lengths = [20, 300, 900, 5000] * 100
    store = LogpStore(str(tmp_path / "store.sqlite"))
    store.write((i.to_bytes(4) * 8, np.zeros(n, np.float32)) for i, n in enumerate(lengths))
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    taken = (tmp_path / "store.sqlite").stat().st_size
    assert store_size(lengths, 400) == pytest.approx(taken, rel=0.15)
    assert store_size(lengths, 40_000) == pytest.approx(100 * taken, rel=0.15)


def test_a_live_reference_is_on_the_device_and_a_value_head_has_none() -> None:
    live = [f"--model.reference={json.dumps({'class_path': 'Frozen', 'init_args': {'model': 'x'}})}"]
    found = planned("ce-8resp", "1xh100", *live, problems=10).memory
    assert (found.reference, found.filling) == (4 * 1_543_714_304, 0)
    head = planned("orm-8resp", "1xh100", problems=10)
    assert (head.memory.reference, head.numbers["store_bytes"], head.memory.busiest) == (0, 0, "layer")


@cache
def setup_at(scale: str) -> Setup:
    return setup_of(yaml.safe_load(resolved_config(options("ce-8resp", scale, 0, []))), on_gpu=True)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--trainer.strategy=fsdp"], "fsdp is not one whose memory is known"),
        (["--trainer.devices=4"], "has 8 problems, too few for 8 micro-batches x 4 devices"),
        (["--trainer.devices=auto"], "trainer.devices is 'auto'"),
        (["--mfu=2"], "--mfu 2.0 is no share"),
        (["--problems=-1"], "problems -1 is not at least 1"),
        (["--shape=./none"], r"--shape"),
        (["--model.optimizer=callbacks.Costs"], "optimizer"),
        (["--trainer.max_epochs=0"], "trains nothing"),
    ],
)
def test_what_cannot_be_planned_is_refused(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "ce-8resp", "--scale", "1xh100", *args])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_the_page_and_the_json_say_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    main(["plan", "ce-8resp", "--scale", "1xh100"])
    page = capsys.readouterr().out
    main(["plan", "ce-8resp", "--scale", "1xh100", "--json"])
    numbers = json.loads(capsys.readouterr().out)
    total = numbers["memory"]["one device"]["total"]
    assert f"{total / 1e9:.1f} of 80.0 GB" in page
    assert page.count("█") > 10
    assert "1,543,714,304" in page


def test_every_device_has_what_a_plan_needs() -> None:
    assert all(found.keys() == {"memory", "bf16", "32"} for found in devices().values())


def test_memory_follows_the_micro_batch_and_nothing_else_does() -> None:
    config, setup = config_of("HuggingFaceTB/SmolLM2-135M-Instruct")[0], setup_at("1xh100")
    short, long = (memory(config, weights(config), setup, MicroBatch(n, n // 2)) for n in (1000, 2000))
    assert short.weights == long.weights
    assert short.optimizer == long.optimizer
    assert short.activations < long.activations
