"""Kernels change how a policy computes, never what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_prm.data.batch import Encoded, collate
from lit_prm.models.kernels import Compiled, Kernels, Liger
from lit_prm.models.reference import Uniform
from lit_prm.models.reward_model import ImplicitReward, OfPolicy, OutcomeHead
from lit_prm.models.values import response_rewards
from tests.conftest import small_llama
from tests.rounding import largest, network_bound
from tests.test_packing import ROWS, TOKENS, VOCABULARY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("policy")
    small_llama(0, VOCABULARY, layers=1).save_pretrained(made)  # dynamo traces layer after layer
    return str(made)


SHAPES = (ROWS[:3], ROWS[3:])


def trained(reward: OfPolicy, device: str = "cpu", parts: Sequence[list[Encoded]] = SHAPES) -> dict[str, Tensor]:
    """Rewards and gradients by name, over micro-batches of two shapes."""
    reward.configure_model()
    reward.to(device).train()
    rewards = []
    for part in parts:
        batch = collate(part, ROWS)
        batch = batch._replace(ids=batch.ids.to(device), step=batch.step.to(device))
        rewards.append(response_rewards(reward(batch), batch.length))
        rewards[-1].sum().backward()
    found = {n: p.grad for n, p in reward.named_parameters() if p.grad is not None}
    return {"rewards": torch.cat(rewards).detach(), **found}


def implicit(folder: str, **options: Any) -> ImplicitReward:
    return ImplicitReward(folder, Uniform(), 0.05, **options)


DYNAMO = "ignore:The .grad attribute of a Tensor that is not a leaf"  # it looks at the .grad of whatever it meets


@pytest.mark.filterwarnings(DYNAMO)
@pytest.mark.slow
@pytest.mark.parametrize(("attention", "checkpointing"), [("packed", False), ("sdpa", True)])
def test_what_dynamo_traces_computes_the_same(attention: str, checkpointing: bool, folder: str) -> None:
    options: dict[str, Any] = {"attention": attention, "gradient_checkpointing": checkpointing}
    usual = trained(implicit(folder, **options))
    compiled = trained(implicit(folder, kernels=[Compiled("eager")], **options))
    assert compiled.keys() == usual.keys()  # a checkpoint of one is that of the other
    for name, value in usual.items():
        rounding = network_bound(TOKENS, largest(value), gradient=True)
        assert_close(compiled[name], value, rtol=0, atol=rounding)


@pytest.mark.filterwarnings(DYNAMO)
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_attention_of_bfloat16_is_left_to_itself(backend: str, folder: str) -> None:
    usual, compiled = (
        trained(implicit(folder, attention="packed", dtype="bfloat16", kernels=kernels), parts=SHAPES[:1])
        for kernels in ([], [Compiled(backend)])
    )
    for name, value in usual.items():
        assert_close(compiled[name], value, rtol=0.05, atol=0.05 * float(value.abs().max()))


def test_a_head_is_compiled_below_it(folder: str) -> None:
    reward = OutcomeHead(folder, kernels=[Compiled("eager")])
    reward.configure_model()
    assert reward.policy.base_model._compiled_call_impl is not None


@pytest.mark.slow
@pytest.mark.filterwarnings(DYNAMO, "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_inductor_computes_the_same(folder: str) -> None:
    usual, compiled = (trained(implicit(folder, kernels=kernels)) for kernels in ([], [Compiled()]))
    for name, value in usual.items():
        assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_ligers_kernels_compute_the_same_on_cuda(folder: str) -> None:
    pytest.importorskip("liger_kernel")
    usual, fused = (trained(implicit(folder, kernels=kernels), "cuda") for kernels in ([], [Liger()]))
    for name, value in usual.items():
        assert_close(fused[name], value, rtol=1e-3, atol=1e-4)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no backend inducter\. Give one of .*inductor"):
        Compiled("inducter")


def test_a_cut_policy_is_not_compiled(folder: str) -> None:
    reward = implicit(folder)
    reward.configure_model()
    next(reward.policy.parameters()).ds_id = 0  # type: ignore[attr-defined]  # as ZeRO-3 marks it
    with pytest.raises(ValueError, match="Leave out Compiled, or use stage 2"):
        Compiled("eager")(reward.policy)


# --- Liger, whose package and device are not here ------------------------------------------------------


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


def refusal(kernels: Kernels, folder: str) -> str:
    with pytest.raises(ValueError, match=r"Liger") as refused:
        implicit(folder, kernels=[kernels]).configure_model()
    return str(refused.value)


def test_liger_says_what_it_lacks(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "need a CUDA device, and torch sees none" in refusal(Liger(), folder)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    assert "pip install liger-kernel" in refusal(Liger(), folder)


def stand_in(monkeypatch: pytest.MonkeyPatch, known: dict[str, Any]) -> None:
    """The part of liger-kernel 0.8.5 that is asked."""
    patch = ModuleType("monkey_patch")
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = known  # type: ignore[attr-defined]
    package = ModuleType("liger_kernel.transformers")
    package.monkey_patch = patch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)


@pytest.mark.usefixtures("with_cuda")
def test_liger_exchanges_layers_and_no_loss(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    stand_in(monkeypatch, {"llama": lambda **options: asked.append(options)})
    reward = implicit(folder, kernels=[Liger()])
    reward.configure_model()
    assert asked == [{"model": reward.policy, "cross_entropy": False, "fused_linear_cross_entropy": False}]


@pytest.mark.usefixtures("with_cuda")
def test_an_architecture_without_kernels_is_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, {})  # Liger itself would do nothing and say nothing
    assert "no kernels for llama" in refusal(Liger(), folder)
