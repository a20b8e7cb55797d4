"""An adapter's policy and its reference are one network: on and off, beside a frozen base, and in training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from lit_prm.data.batch import Batch, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.models.adapters import AdaptedReward, AdapterOff, base_of, is_adapter, load_adapted
from lit_prm.models.language_model import load_model, load_tokenizer
from lit_prm.models.logps import token_logps
from lit_prm.models.reference import Frozen
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.models.values import response_rewards
from lit_prm.models.weights import weights_hash
from lit_prm.scoring.export.command import export
from lit_prm.scoring.loading import load
from tests.conftest import small_llama
from tests.rounding import largest, network_bound, reward_bound

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft 0.21, transformers 5.23

GROUP = Group(
    problem=Problem(prompt="What is 2 * (3 + 4)?", id="p"),
    rollouts=tuple(Rollout(response=r) for r in ("14", "Step 1: Add.\n\nStep 2: Double it: 7 * 2 = 14.")),
)


@pytest.fixture(scope="module")
def batch(tokenizer: PreTrainedTokenizerFast) -> Batch:
    return collate(Encoder(tokenizer, BlankLine()).encode([GROUP]))


def adapter(folder: Path, base: Path, **options: Any) -> Path:
    """A LoRA folder as TRL leaves it, on ``base``, whose update is not zero; its pickle is a trap."""
    options = {"target_modules": ["q_proj", "down_proj"], "r": 4, "lora_dropout": 0.5} | options
    model = get_peft_model(load_model(str(base)), LoraConfig(**options))
    torch.manual_seed(2)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(str(folder))
    (folder / "training_args.bin").write_bytes(b"cos\nsystem\n(S'touch unpickled'\ntR.")
    return folder


@pytest.fixture(scope="module")
def lora(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(tmp_path_factory.mktemp("lora"), policy_folder)


def loaded(reward: ImplicitReward, *, training: bool = False) -> ImplicitReward:
    reward.configure_model()
    return reward.train(training)


def test_off_equals_the_base_and_on_the_merged_model(policy_folder: Path, lora: Path, batch: Batch) -> None:
    reward = loaded(AdaptedReward(str(lora)))
    base = load_model(str(policy_folder), attention="auto")
    whole = load_adapted(str(lora)).merge_and_unload()
    assert isinstance(reward.reference, AdapterOff)
    with torch.no_grad():
        assert_close(reward.reference.logps(batch), token_logps(base, batch), rtol=0, atol=0)
        on, merged = token_logps(reward.policy, batch), token_logps(whole, batch)
    assert_close(on, merged, rtol=0, atol=network_bound(on.shape[1], largest(merged)))
    assert (on - token_logps(base, batch)).abs().max() > 0.1


def test_rewards_equal_those_of_two_networks(policy_folder: Path, lora: Path, batch: Batch, tmp_path: Path) -> None:
    load_adapted(str(lora)).merge_and_unload().save_pretrained(str(tmp_path))
    two = loaded(ImplicitReward(str(tmp_path), Frozen(str(policy_folder)), beta=0.1))
    one = loaded(AdaptedReward(str(lora), beta=0.1))
    given = loaded(AdaptedReward(str(lora), reference=Frozen(str(policy_folder)), beta=0.1))
    with torch.no_grad():
        rounding = reward_bound(batch.ids.shape[1], 0.1)
        assert_close(one(batch), two(batch), rtol=0, atol=rounding)
        assert_close(given(batch), one(batch), rtol=0, atol=rounding)  # padded and packed


@pytest.fixture(scope="module")
def biased(policy_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose attention has biases."""
    folder = tmp_path_factory.mktemp("biased")
    config = LlamaForCausalLM.from_pretrained(policy_folder).config
    config.attention_bias = True
    torch.manual_seed(4)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"bias": "all"},
        {"bias": "lora_only"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_an_adapter_that_changes_its_base_needs_a_reference(
    options: dict[str, Any], biased: Path, batch: Batch, tmp_path: Path
) -> None:
    base = load_model(str(biased))
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj", "down_proj"], r=4, **options))
    torch.manual_seed(2)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.requires_grad and "lora_A" not in name:  # what is trained and saved
                weights.add_(0.3 * torch.randn_like(weights))
        trained = token_logps(model.get_base_model(), batch)
        before = token_logps(load_model(str(biased)), batch)
    model.save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ValueError, match=r"changes \d+ weights of its base, e.g. model.* Name the reference: --ref"):
        AdaptedReward(str(tmp_path / "adapter"), base=str(biased)).configure_model()
    reward = loaded(AdaptedReward(str(tmp_path / "adapter"), str(biased), Frozen(str(biased)), beta=1.0))
    with torch.no_grad():
        expected = (trained - before).sum(1)
        assert_close(response_rewards(reward(batch), batch.length), expected, rtol=0, atol=1e-3)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["norm"]},
        {"bias": "lora_only"},  # of layers that have none
        {"init_lora_weights": "gaussian"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_adapter_that_leaves_its_base_alone_needs_none(
    options: dict[str, Any], policy_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    reward = loaded(AdaptedReward(str(adapter(tmp_path, policy_folder, **options))))
    base = load_model(str(policy_folder), attention="auto")
    with torch.no_grad():
        assert_close(reward.references()[0].logps(batch), token_logps(base, batch), rtol=0, atol=0)


def test_there_is_one_set_of_weights(lora: Path, policy_folder: Path) -> None:
    reward = loaded(AdaptedReward(str(lora)))
    base = sum(p.numel() for p in load_model(str(policy_folder)).parameters())
    own = {n: p.numel() for n, p in reward.named_parameters()}
    assert sum(n for name, n in own.items() if "lora_" not in name) == base
    assert any("lora_" in name for name in own)


def test_asking_the_reference_leaves_the_policy_as_it_was(lora: Path, batch: Batch) -> None:
    """Adapter on, dropout on in training, off in the reference: its log-probs are the same every time."""
    reward = loaded(AdaptedReward(str(lora)))
    before = token_logps(reward.policy, batch)
    assert_close(reward.references()[0].logps(batch), reward.references()[0].logps(batch), rtol=0, atol=0)
    assert_close(token_logps(reward.policy, batch), before, rtol=0, atol=0)
    reward.train()
    modes = [m.training for m in reward.modules()]
    first, second = reward.references()[0].logps(batch), reward.references()[0].logps(batch)
    assert torch.equal(first, second)
    assert modes == [m.training for m in reward.modules()]
    assert not torch.equal(token_logps(reward.policy, batch), before)  # dropout


def test_an_adapter_folder_is_scored_like_its_two_networks(lora: Path, policy_folder: Path, tmp_path: Path) -> None:
    """TRL's output with PEFT needs no other name; without PEFT it is two folders."""
    load_adapted(str(lora)).merge_and_unload().save_pretrained(str(tmp_path))
    load_tokenizer(str(policy_folder)).save_pretrained(str(tmp_path))
    for file in policy_folder.glob("*token*"):
        (lora / file.name).write_bytes(file.read_bytes())
    (lora / "chat_template.jinja").write_bytes((policy_folder / "chat_template.jinja").read_bytes())
    one = load(str(lora), beta=0.1).score([GROUP])[0]
    two = load(str(tmp_path), reference=str(policy_folder), beta=0.1).score([GROUP])[0]
    for a, b in zip(one, two, strict=True):
        rounding = reward_bound(a.tokens + 64, 0.1)
        assert a.reward == pytest.approx(b.reward, abs=rounding)
        assert a.step_rewards == pytest.approx(b.step_rewards, abs=rounding)
        assert a.reference_logps == pytest.approx(b.reference_logps, abs=rounding / 0.1)
    assert not Path("unpickled").exists()


def test_an_exported_adapter_is_an_adapter_and_scores_as_its_run(
    lora: Path, policy_folder: Path, tmp_path: Path
) -> None:
    """The run's checkpoint holds the network and the adapter as trained; its folder the adapter alone."""
    reward = loaded(AdaptedReward(str(lora), beta=0.1))
    with torch.no_grad():
        for name, weights in reward.named_parameters():
            weights.add_(0.05 if "lora_B" in name else 0.0)
    config = {
        "model": {
            "reward_model": {
                "class_path": "lit_prm.models.adapters.AdaptedReward",
                "init_args": {"policy": str(lora), "beta": 0.1},
            },
            "reference": {"class_path": "lit_prm.models.reference.Uniform"},
            "loss": {"class_path": "lit_prm.losses.ce.CE"},
        },
        "data": {"tokenizer": str(policy_folder), "steps": {"class_path": "lit_prm.data.steps.BlankLine"}},
        "trainer": {"max_epochs": 1},
    }
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    state = {f"reward_model.{name}": w for name, w in reward.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "run" / "checkpoints" / "last.ckpt")
    export(str(tmp_path / "run"), tmp_path / "export")
    assert is_adapter(str(tmp_path / "export"))
    assert not (tmp_path / "export" / "model.safetensors").exists()
    run, exported = (load(str(tmp_path / name)).score([GROUP])[0] for name in ("run", "export"))
    batch = collate(Encoder(load_tokenizer(str(policy_folder)), BlankLine()).encode([GROUP]))
    trained = response_rewards(reward(batch), batch.length).tolist()
    rounding = reward_bound(batch.ids.shape[1], 0.1)
    assert [r.reward for r in exported] == pytest.approx([r.reward for r in run], abs=rounding)
    assert [r.reward for r in exported] == pytest.approx(trained, abs=rounding)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_adapter_past_the_reference(lora: Path, batch: Batch, checkpointing: bool) -> None:
    """A training step asks both: the adapter's gradient is that of the policy's log-probs."""
    reward = loaded(AdaptedReward(str(lora), beta=1.0, gradient_checkpointing=checkpointing))
    for name, weights in reward.named_parameters():
        weights.requires_grad_("lora_" in name)
    logps = token_logps(reward.policy, batch).sum()
    trained = [p for n, p in reward.named_parameters() if "lora_" in n]
    expected = torch.autograd.grad(logps, trained)
    values = reward(batch).gather(1, (batch.length - 1).unsqueeze(1)).sum()
    for found, wanted in zip(torch.autograd.grad(values, trained), expected, strict=True):
        rounding = network_bound(batch.ids.numel(), largest(wanted), gradient=True)
        assert_close(found, wanted, rtol=0, atol=rounding)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")  # peft tells what it stores
def test_an_adapted_head_is_read_with_its_adapter(
    tokenizer: PreTrainedTokenizerFast, batch: Batch, tmp_path: Path
) -> None:
    config = small_llama(0, len(tokenizer)).config
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    folder = adapter(tmp_path / "lora", tmp_path / "base", target_modules=["v_proj", "lm_head"])
    reward = loaded(AdaptedReward(str(folder)))
    with torch.no_grad():
        on = token_logps(load_adapted(str(folder)).merge_and_unload(), batch)
        rounding = network_bound(on.shape[1], largest(on))
        assert_close(token_logps(reward.policy, batch), on, rtol=0, atol=rounding)
        off = token_logps(load_model(str(tmp_path / "base"), attention="auto"), batch)
        assert_close(reward.references()[0].logps(batch), off, rtol=0, atol=0)


def test_folders_say_whether_they_are_adapters(lora: Path, policy_folder: Path, tmp_path: Path) -> None:
    assert is_adapter(str(lora))
    assert not is_adapter(str(policy_folder))
    assert base_of(str(lora)) == str(policy_folder)
    with pytest.raises(ValueError, match=r"No base model is named in .*, which has no adapter_config\.json"):
        base_of(str(policy_folder))
    assert not Path("unpickled").exists()


def test_a_base_beside_or_given_takes_the_place_of_the_named_one(
    lora: Path, policy_folder: Path, tmp_path: Path
) -> None:
    for file in lora.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "base"}))
    (tmp_path / "base").symlink_to(policy_folder)
    assert base_of(str(tmp_path)) == str(tmp_path / "base")
    loaded(AdaptedReward(str(tmp_path)))
    loaded(AdaptedReward(str(tmp_path), base=str(policy_folder)))


def test_what_cannot_be_switched_off_or_does_not_fit_is_refused(
    lora: Path, policy_folder: Path, tmp_path: Path
) -> None:
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(load_model(str(policy_folder)), prompt).save_pretrained(str(tmp_path / "prompt"))
    with pytest.raises(ValueError, match="is a PROMPT_TUNING adapter"):
        load_adapted(str(tmp_path / "prompt"))
    wide = small_llama(0, 400)
    wide.config.hidden_size = 64
    type(wide)(wide.config).save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"does not fit .*wide"):
        load_adapted(str(lora), base=str(tmp_path / "wide"))
    with pytest.raises(ValueError, match="AdapterOff has no network whose adapter"):
        ImplicitReward(str(policy_folder), AdapterOff()).references()[0].logps(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", ["head", "missing"])
def test_an_adapter_of_a_classifier_or_without_a_part_is_refused(
    change: str, lora: Path, policy_folder: Path, tmp_path: Path
) -> None:
    if change == "head":
        classifier = LlamaForTokenClassification.from_pretrained(policy_folder, num_labels=2)
        config = LoraConfig(task_type="TOKEN_CLS", target_modules=["q_proj"])
        get_peft_model(classifier, config).save_pretrained(str(tmp_path / "prm"))
    else:
        shutil.copytree(lora, tmp_path / "prm")
        weights = load_file(lora / "adapter_model.safetensors")
        weights.pop(min(weights))
        save_file(weights, tmp_path / "prm/adapter_model.safetensors", metadata={"format": "pt"})
    told = {
        "head": r"holds base_model.model.score.*, which a LlamaForCausalLM does not have",
        "missing": "does not fit",
    }
    with pytest.raises(ValueError, match=told[change]):
        load_adapted(str(tmp_path / "prm"), base=str(policy_folder))


def test_an_adapters_hash_knows_its_settings(lora: Path, tmp_path: Path) -> None:
    other = shutil.copytree(lora, tmp_path / "other")
    assert weights_hash(str(other)) == weights_hash(str(lora))
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 4 * config["lora_alpha"]}))
    assert weights_hash(str(other)) != weights_hash(str(lora))
