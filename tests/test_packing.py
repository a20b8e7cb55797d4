"""Law 5 over all that saves work: however responses are run, rewards, loss and gradients are those of each alone."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.nca import NCA
from lit_prm.models import cpu_attention
from lit_prm.models.language_model import load_model
from lit_prm.models.logps import token_logps
from lit_prm.models.packed_rows import PACKED, packed_states, real
from lit_prm.models.probes import _why_different, pack, why_not_packed
from lit_prm.models.reference import Frozen, Reference, Stored
from lit_prm.models.reward_model import ImplicitReward, OutcomeHead
from lit_prm.models.values import response_rewards
from tests.conftest import small_llama
from tests.rounding import largest, network_bound

VOCABULARY, BETA = 300, 0.05


def rows_of(sizes: list[tuple[int, list[int]]], seed: int = 0) -> list[Encoded]:
    """Responses of the given lengths behind a prompt of the given length for each problem, right and wrong in turn."""
    rng = np.random.default_rng(seed)
    rows: list[Encoded] = []
    for problem, (prompt, responses) in enumerate(sizes):
        asked = rng.integers(VOCABULARY, size=prompt)
        for size in responses:
            ids = np.concatenate([asked, rng.integers(VOCABULARY, size=size)]).astype(np.int32)
            label = float(len(rows) % 2 == 0)
            rows.append(Encoded(ids, prompt, np.zeros(size, np.int32), label, problem, len(rows)))
    return rows


ROWS = rows_of([(3, [5, 1, 9]), (17, [12, 2]), (9, [30, 7, 7, 1]), (1, [4, 40])])
LONGEST, TOKENS = max(map(len, ROWS)), sum(map(len, ROWS))


class Found(NamedTuple):
    rewards: Tensor  # [B], in the order of rows
    loss: float
    gradient: Tensor


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A policy and its reference."""
    made = [tmp_path_factory.mktemp(name) for name in ("policy", "reference")]
    for seed, folder in enumerate(made):
        small_llama(seed, VOCABULARY).save_pretrained(folder)
    return str(made[0]), str(made[1])


def found(loss: Loss, reward: ImplicitReward, batches: list[Batch]) -> Found:
    """Rewards, loss and gradient of one update over the batches, as the module accumulates them."""
    reward.train()
    rewards, total = torch.zeros(len(ROWS)), 0.0
    for batch in batches:
        values = response_rewards(reward(batch), batch.length)
        terms = loss(values, batch.labels, batch.group).sum() / loss.num_terms(batch.global_labels, batch.global_group)
        (terms + 0 * values.sum()).backward()
        rewards[batch.row] = values.detach()
        total += float(terms.detach())
    gradient = torch.cat([p.grad.flatten() for p in reward.parameters() if p.grad is not None])
    return Found(rewards, total, gradient)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    loss=st.sampled_from([CE(), DPO(), NCA()]),
    attention=st.sampled_from(["packed", "sdpa", "eager"]),
    share=st.booleans(),
    checkpointing=st.booleans(),
    stored=st.booleans(),
    cuts=st.integers(1, 4),
    order=st.permutations(range(4)),
)
def test_every_way_of_saving_work_finds_what_each_response_alone_does(
    loss: Loss, attention: str, share: bool, checkpointing: bool, stored: bool, cuts: int, order: list[int],
    folders: tuple[str, str], tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    policy, frozen = folders
    share = share and not (checkpointing and attention != "packed")  # refused: no keys are kept
    store = str(tmp_path_factory.mktemp("store") / "logps.sqlite")
    reference: Reference = Stored(frozen, store) if stored else Frozen(frozen)
    parts = [[r for p in part for r in ROWS if r.group == p] for part in np.array_split(np.array(order), cuts)]
    reward = ImplicitReward(policy, reference, BETA, gradient_checkpointing=checkpointing, attention=attention)
    reward.configure_model()
    ours = found(loss, reward, [collate(part, ROWS, share_prompts=share) for part in parts])
    naive = one_by_one(loss, policy, frozen)
    rounding = network_bound(LONGEST, 1.0) * _SIZE["terms"]  # one token more or less is 100 times as far
    assert ((ours.rewards - naive.rewards).abs() <= rounding).all()
    assert abs(ours.loss - naive.loss) <= 2 * rounding.max()  # a loss is as steep as two rewards at most
    assert (ours.gradient - naive.gradient).norm() <= network_bound(TOKENS, 1.0, gradient=True) * naive.gradient.norm()


_NAIVE: dict[str, Found] = {}
_SIZE: dict[str, Tensor] = {}  # "terms": of the two log-probs that each reward is the difference of; [B]


def one_by_one(loss: Loss, policy: str, frozen: str) -> Found:
    """The slow reference: every response alone, padded attention, live reference, one graph for the whole update."""
    name = type(loss).__name__
    if name not in _NAIVE:
        model, reference = load_model(policy, attention="eager"), load_model(frozen, attention="eager")
        batches = [collate([row], ROWS) for row in ROWS]
        with torch.no_grad():
            base = [token_logps(reference, b).double().sum() for b in batches]
        ours = [token_logps(model, b).double().sum() for b in batches]
        rewards = torch.stack([BETA * (a - b) for a, b in zip(ours, base, strict=True)]).float()
        _SIZE["terms"] = BETA * torch.stack([-b for b in base]).float()
        whole = batches[0]
        total = loss(rewards, whole.global_labels, whole.global_group).mean()
        total.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        _NAIVE[name] = Found(rewards.detach(), float(total.detach()), gradient)
    return _NAIVE[name]


def small(kind: Any, config: Any) -> Any:
    torch.manual_seed(0)
    model = kind(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3 if weights.dim() > 1 else 0.02)
    return model.eval()


SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
OF_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
MODELS = {
    "window": lambda: small(MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=8)),
    "bias": lambda: small(Qwen2ForCausalLM, Qwen2Config(**SHAPE)),
    "learned positions": lambda: small(GPT2LMHeadModel, GPT2Config(**OF_GPT2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_other_architectures_are_packed_too(name: str) -> None:
    model = MODELS[name]()
    batch = collate(ROWS)
    padded = token_logps(model, batch)
    assert why_not_packed(model) is None
    assert model.config._attn_implementation == PACKED
    assert_close(token_logps(model, batch), padded, rtol=0, atol=network_bound(LONGEST, largest(padded)))


def test_no_padding_is_computed() -> None:
    model = small_llama(0, VOCABULARY)
    model.set_attn_implementation(PACKED)
    seen: list[int] = []
    model.model.layers[0].mlp.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape[:-1].numel()))
    states = packed_states(model.model, batch := collate(ROWS))
    assert seen == [sum(map(len, ROWS))] == [len(states[0])] == [int(real(batch).sum())]


def test_a_response_sees_no_neighbour() -> None:
    model = small_llama(0, VOCABULARY)
    model.set_attn_implementation(PACKED)
    states, _ = packed_states(model.model, collate(ROWS))
    changed = [r if r.row != 3 else rows_of([(r.prompt_length, [len(r) - r.prompt_length])], seed=9)[0] for r in ROWS]
    others, _ = packed_states(model.model, collate(changed))
    mine = torch.cat([torch.full((len(r),), r.row == 3) for r in ROWS])
    assert torch.equal(states[~mine], others[~mine])
    assert not torch.equal(states[mine], others[mine])


def test_packed_models_still_generate_and_run_padded_rows() -> None:
    model: Any = small_llama(0, VOCABULARY)
    ids, mask = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    asked: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    before = model.generate(ids, **asked)
    model.set_attn_implementation(PACKED)
    assert torch.equal(model.generate(ids, **asked), before)


def test_a_model_that_cannot_be_packed_is_padded_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)
    config.bos_token_id = config.eos_token_id = None
    model = small(BloomForCausalLM, config)
    padded = token_logps(model, collate(ROWS))
    with caplog.at_level(logging.WARNING, logger="lit_prm.models.language_model"):
        pack(model)
    assert "BloomForCausalLM runs padded responses: its attention cannot be exchanged" in caplog.text
    assert_close(token_logps(model, collate(ROWS)), padded)


def test_a_head_of_values_is_packed_alike(folders: tuple[str, str]) -> None:
    values = []
    for attention in ("packed", "sdpa"):
        torch.manual_seed(0)
        head = OutcomeHead(folders[0], attention=attention)
        head.configure_model()
        torch.nn.init.normal_(head.head.weight)
        values.append(head(collate(ROWS)))
    assert_close(values[0], values[1], rtol=0, atol=network_bound(LONGEST, largest(values[1])))


def test_an_exported_folder_names_no_attention_of_ours(folders: tuple[str, str], tmp_path: Path) -> None:
    load_model(folders[0], attention="auto").save_pretrained(tmp_path)
    assert "packed" not in (tmp_path / "config.json").read_text()
    assert LlamaConfig.from_pretrained(tmp_path).vocab_size == VOCABULARY


@pytest.mark.parametrize("windows", [0, 2])
def test_a_model_whose_windows_are_in_its_masks_alone_is_padded(windows: int) -> None:
    kinds = ["sliding_attention"] * windows + ["full_attention"] * (2 - windows)
    options: dict[str, Any] = {"num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    options |= {"shared_expert_intermediate_size": 32}
    options |= {"layer_types": kinds, "use_sliding_window": True, "sliding_window": 64}  # longer than the sample
    model = small(Qwen2MoeForCausalLM, Qwen2MoeConfig(**SHAPE, **options))
    assert why_not_packed(model) == (
        f"{windows} of its layers have a window that their attention does not receive" if windows else None
    )


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_positions_that_hang_on_a_neighbours_length_are_refused(kind: str) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 1e4, "original_max_position_embeddings": 32, "factor": 4.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    most = 128 if kind == "longrope" else 32
    model = small(LlamaForCausalLM, LlamaConfig(**SHAPE, max_position_embeddings=most, rope_parameters=rope))
    short, long = rows_of([(3, [5, 9])]), rows_of([(3, [40])])
    alone = token_logps(model, collate(short[:1]))
    rounding = network_bound(len(short[0]), largest(alone))
    assert_close(token_logps(model, collate(short))[:1, :8], alone, rtol=0, atol=rounding)
    refused = r"A response has 43 tokens.*data\.max_length to at most 32"
    for rows, fits in ((long, kind == "longrope"), ([*short, *long], False)):
        with nullcontext() if fits else pytest.raises(ValueError, match=refused):
            token_logps(model, collate(rows))
    with pytest.raises(ValueError, match=refused):
        token_logps(model, collate(long, share_prompts=True))


@pytest.mark.parametrize("window", [None, 20])
def test_a_policy_that_is_its_reference_earns_nothing_though_prompts_are_shared(
    window: int | None, tmp_path: Path
) -> None:
    """In bfloat16, where another way to run the same network would round otherwise."""
    small(MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=window)).save_pretrained(tmp_path)
    reward = ImplicitReward(str(tmp_path), Frozen(str(tmp_path), "bfloat16"), BETA, dtype="bfloat16")
    reward.configure_model()
    for share in (False, True):
        assert not reward(collate(ROWS, share_prompts=share)).any()


def test_a_windowed_model_that_is_not_packed_shares_no_prompts() -> None:
    model = MODELS["window"]()
    with pytest.raises(ValueError, match="cannot share prompts: it has a window of 8 tokens"):
        token_logps(model, collate(ROWS, share_prompts=True))


def test_a_mask_that_a_validation_asked_for_serves_training() -> None:
    model = MODELS["window"]()
    model.set_attn_implementation(PACKED)
    with torch.inference_mode():
        token_logps(model, collate(ROWS))
    token_logps(model, collate(ROWS)).sum().backward()


@pytest.mark.parametrize("share", [False, True])
def test_autocast_reaches_the_kernels_of_bfloat16(share: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary positions come in float32 under it."""
    model = MODELS["bias"]()
    model.set_attn_implementation(PACKED)
    with torch.autocast("cpu", torch.bfloat16):
        plain = token_logps(model, collate(ROWS, share_prompts=share)).detach()
    called: list[torch.dtype] = []
    inner = cpu_attention.attention

    def noted(query: Tensor, *others: Any) -> Tensor:
        called.append(query.dtype)
        return inner(query, *others)

    monkeypatch.setattr(cpu_attention, "attention", noted)
    with torch.autocast("cpu", torch.bfloat16):
        logps = token_logps(model, collate(ROWS, share_prompts=share))
    logps.sum().backward()
    assert set(called) == {torch.bfloat16}
    assert torch.equal(logps, plain)


@pytest.mark.parametrize(
    ("dtype", "rounding", "refused"),
    [(torch.bfloat16, 0.1, True), (torch.bfloat16, 0.3, False), (torch.float32, 0.3, True)],
)
def test_how_much_rounding_is_depends_on_the_model(dtype: torch.dtype, rounding: float, refused: bool) -> None:
    """In half precision random words are improbable, and their log-probs are rounded by far more than good ones."""
    model: Any = small_llama(0, VOCABULARY)
    model, alone = model.to(dtype), -torch.ones(2, 8)
    told = _why_different(model, alone, alone + 0.5, lambda: alone + rounding)
    assert (told is not None) is refused
    assert _why_different(model, alone, alone * torch.nan, lambda: alone) is not None
    one = alone.clone()
    one[0, 0] += 2e-3  # a single token
    assert (_why_different(model, alone, one, lambda: alone) is not None) is (dtype == torch.float32)


# --- CUDA ------------------------------------------------------------------------------------------


def varlen(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, seen: Tensor, most: int, most_seen: int, *,
    scale: float | None, window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """torch's ``varlen_attn`` by its documentation, sequence after sequence: the last query sees up to the last key."""
    assert (most, most_seen) == (int(ends.diff().max()), int(seen.diff().max()))
    found = []
    for (a, b), (c, d) in zip(pairwise(ends.tolist()), pairwise(seen.tolist()), strict=True):
        back = torch.arange(d - b + a - c, d - c).unsqueeze(1) - torch.arange(d - c)
        mask = (back >= 0) & ((back <= window_size[0]) | (window_size[0] < 0))
        q, k, v = (x.transpose(0, 1) for x in (query[a:b], key[c:d], value[c:d]))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=enable_gqa)
        found.append(out.transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("name", ["window", "bias"])
@pytest.mark.parametrize("share", [False, True])
def test_the_kernel_for_cuda_is_told_the_same_segments(name: str, share: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments, with a stand-in for the kernel, which no CPU has."""
    model = MODELS[name]()
    padded = token_logps(model, collate(ROWS))
    monkeypatch.setattr("lit_prm.models.packed_attention._has_varlen", lambda _: True)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen)
    model.set_attn_implementation(PACKED)
    assert_close(
        token_logps(model, collate(ROWS, share_prompts=share)),
        padded,
        rtol=0,
        atol=network_bound(LONGEST, largest(padded)),
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("share", [False, True])
def test_on_cuda_the_kernel_runs_all_responses_at_once(share: bool) -> None:
    model = MODELS["bias"]().bfloat16().cuda()
    padded, packed = (collate(ROWS, share_prompts=s) for s in (False, share))
    before = token_logps(model, padded._replace(ids=padded.ids.cuda(), step=padded.step.cuda()))
    model.set_attn_implementation(PACKED)
    after = token_logps(model, packed._replace(ids=packed.ids.cuda(), step=packed.step.cuda()))
    assert (after - before).abs().max() <= 0.3
    after.sum().backward()
