"""Memory of references, of adapters and of micro-batches."""

from __future__ import annotations

import json

import pytest

from lit_prm.commands.plan.lengths import MicroBatch
from lit_prm.commands.plan.memory import memory
from lit_prm.commands.plan.network import config_of, weights
from lit_prm.models.logps import CHUNK
from tests.plan.planning import planned, setup_at


def test_a_policy_that_fills_the_store_saves_a_whole_reference() -> None:
    """Beside it are the weights; a run whose policy is not the reference is refused before it starts."""
    own, policy = (
        planned("ce-8resp", "1xh100", f"--model.reference.init_args.from_policy={by}", problems=8)
        for by in ("false", "true")
    )
    n = own.numbers["parameters"]
    assert own.memory.filling - policy.memory.filling == 4 * n - 2 * n  # its weights, less the policy's under autocast
    assert own.memory.total == policy.memory.total
    assert policy.memory.filling > policy.memory.parts["weights"] + policy.memory.parts["framework"]
    with pytest.raises(ValueError, match="Give both one model and dtype"):
        setup_at("1xh100", "--model.reference.init_args.from_policy=true", "--model.reference.init_args.dtype=bfloat16")


def test_under_zero_the_store_is_filled_beside_an_optimizer_that_is_there_already() -> None:
    zero = ["--trainer.strategy=lit_prm.training.zero.ZeRO", "--trainer.strategy.init_args.stage=3"]
    found = planned("ce-8resp", "1xh100", "--model.reference.init_args.from_policy=true", *zero, problems=8).memory
    parts = ("weights", "gradients", "optimizer", "communication", "framework")
    standing = sum(found.parts[part] for part in parts)
    assert found.filling - standing == CHUNK * 151_936 * (2 + 2 * 4)  # logits of Qwen's words, bfloat16 and float32


LORA = "--model.reward_model=lit_prm.models.adapters.LoRAReward"


def test_an_adapter_alone_is_trained_and_its_base_is_the_reference() -> None:
    full, lora = planned("ce-8resp", "1xh100", problems=8), planned("ce-8resp", "1xh100", LORA, problems=8)
    assert lora.numbers["trained_parameters"] == 18_464_768  # of Qwen2.5-1.5B with rank 16
    assert lora.memory.parts["gradients"] == 4 * 18_464_768
    assert lora.memory.parts["optimizer"] < 8.1 * 18_464_768
    assert lora.memory.parts["weights"] - full.memory.parts["weights"] == 4 * 18_464_768
    assert (
        lora.memory.parts["activations"] < full.memory.parts["activations"]
    )  # no gradient and no cast of the base's weights is kept
    assert lora.memory.parts["reference"] == 0
    assert lora.numbers["flops"]["reference"] == 2 * full.numbers["flops"]["reference"]  # the baselines' store as well


def test_an_adapter_that_nobody_trains_is_refused() -> None:
    with pytest.raises(ValueError, match="trains nothing"):
        setup_at("1xh100", "--model.reward_model=lit_prm.models.adapters.AdaptedReward")


def test_a_live_reference_is_on_the_device_and_a_value_head_has_none() -> None:
    live = [f"--model.reference={json.dumps({'class_path': 'Frozen', 'init_args': {'model': 'x'}})}"]
    found = planned("ce-8resp", "1xh100", *live, problems=10).memory
    assert (found.parts["reference"], found.filling) == (4 * 1_543_714_304, 0)
    head = planned("orm-8resp", "1xh100", problems=10)
    assert (head.memory.parts["reference"], head.memory.busiest) == (0, "layer")
    assert head.numbers["store_bytes"] > 0  # of the reference that the baselines read


def test_memory_follows_the_micro_batch_and_nothing_else_does() -> None:
    config, setup = config_of("HuggingFaceTB/SmolLM2-135M-Instruct")[0], setup_at("1xh100")
    short, long = (memory(config, weights(config), setup, MicroBatch(n, n // 2)) for n in (1000, 2000))
    assert short.parts["weights"] == long.parts["weights"]
    assert short.parts["optimizer"] == long.parts["optimizer"]
    assert short.parts["activations"] < long.parts["activations"]
