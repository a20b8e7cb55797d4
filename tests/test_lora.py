"""A new LoRA adapter: one set of weights is policy and reference, and the adapter alone is trained and kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedTokenizerFast

import lit_prm
from lit_prm.commands.main import main
from lit_prm.data.batch import Batch, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.models.adapters import LoRAReward
from lit_prm.models.language_model import load_model
from lit_prm.models.logps import token_logps
from lit_prm.scoring.building import _weights
from lit_prm.scoring.spec import RewardSpec
from tests.integration.conftest import Desk, desk, summary, weights  # noqa: F401  a fixture
from tests.rounding import largest, network_bound, reward_bound

LORA = ["--model.reward_model=lit_prm.models.adapters.LoRAReward", "--model.reward_model.init_args.rank=4"]


@pytest.fixture(scope="module")
def batch(tokenizer: PreTrainedTokenizerFast) -> Batch:
    rollouts = tuple(Rollout(response=r, correct=i == 0) for i, r in enumerate(("14", "7 * 2 = 14", "no")))
    group = Group(problem=Problem(prompt="What is 2 * (3 + 4)?", id="p"), rollouts=rollouts)
    return collate(Encoder(tokenizer, BlankLine()).encode([group]))


@pytest.fixture
def reward(policy_folder: Path) -> LoRAReward:
    made = LoRAReward(str(policy_folder), rank=4, beta=0.5)
    made.configure_model()
    return made


def test_rewards_begin_at_zero_and_the_adapter_alone_learns(
    reward: LoRAReward, policy_folder: Path, batch: Batch
) -> None:
    base = token_logps(load_model(str(policy_folder)), batch)
    tokens = batch.ids.shape[1]
    assert_close(reward(batch), torch.zeros_like(base), rtol=0, atol=reward_bound(tokens, 0.5))
    learning = {name: p for name, p in reward.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    optimizer = torch.optim.SGD(learning.values(), lr=1.0)
    for _ in range(2):  # A moves once B has
        reward(batch).sum().backward()
        optimizer.step()
    assert reward(batch).abs().max() > 10 * reward_bound(tokens, 0.5)
    rounding = network_bound(tokens, largest(base))
    assert_close(reward.references()[0].logps(batch), base, rtol=0, atol=rounding)


def test_half_precision_weights_have_an_adapter_that_hears_small_updates(policy_folder: Path) -> None:
    made = LoRAReward(str(policy_folder), rank=4, dtype="bfloat16")
    made.configure_model()
    assert {p.dtype for p in made.parameters() if p.requires_grad} == {torch.float32}


def test_a_rank_below_one_is_refused(policy_folder: Path) -> None:
    with pytest.raises(ValueError, match="rank 0 is not at least 1"):
        LoRAReward(str(policy_folder), rank=0)


def test_a_run_keeps_the_adapter_alone_goes_on_and_is_exported(desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    brief = [*LORA, "--data.test={test: candidates/test.jsonl}", "--trainer.limit_val_batches=0"]
    run = desk.exp("ce-8resp", *brief)
    kept = weights(run)
    assert kept
    assert all("lora_" in name for name in kept)
    assert summary(run)["status"] == "FINISHED"
    before = summary(run)["metrics"]["bon/test/acc@4"]
    main(["test", *_files(desk), *brief])  # from the checkpoint
    assert summary(run)["metrics"]["bon/test/acc@4"] == before
    main(["export", str(run), str(tmp_path / "export")])
    assert {p.name for p in (tmp_path / "export").iterdir()} >= {"adapter_model.safetensors", "reward.json"}
    asked, responses = "What is 2 + 3?", ["It is 5.", "It is 6."]
    one, two = (lit_prm.load(str(f)).score_texts(asked, responses) for f in (run, tmp_path / "export"))
    assert [r.reward for r in two] == pytest.approx([r.reward for r in one], abs=reward_bound(64, 2.0))


def _files(desk: Desk) -> list[str]:  # noqa: F811
    stems = ("base", "scale/tiny", "ce-8resp")
    return [*(f"--config={desk.folder}/experiments/{stem}.yaml" for stem in stems), *desk.options("--name=ce-8resp")]


def test_the_base_of_a_checkpoint_is_part_of_what_scores_hang_on(
    policy_folder: Path, reference_folder: Path, tmp_path: Path
) -> None:
    """A checkpoint holds the adapter alone."""
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}}, checkpoint)

    def weights_of(base: Path) -> str:
        spec = RewardSpec(
            reward_model={"class_path": "lit_prm.models.adapters.LoRAReward", "init_args": {"policy": str(base)}},
            tokenizer=str(base), steps={"class_path": "BlankLine", "init_args": {}}, reference=None,
            weights=str(checkpoint),
        )  # fmt: skip
        return _weights(spec, LoRAReward(str(base)))

    assert weights_of(policy_folder) != weights_of(reference_folder)
    assert weights_of(policy_folder) == weights_of(Path(shutil.copytree(policy_folder, tmp_path / "moved")))
