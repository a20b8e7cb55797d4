"""Prompts run once for all their responses change no number (law 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from lit_prm.data.batch import Encoded, collate
from lit_prm.models import shared_prompts
from lit_prm.models.logps import token_logps
from lit_prm.models.packed_rows import PACKED
from lit_prm.models.probes import why_not_shared
from lit_prm.scoring.planning import planned
from tests.conftest import small_llama
from tests.rounding import largest, network_bound


def rows_of(problems: Sequence[tuple[int, Sequence[int]]], seed: int = 0) -> list[Encoded]:
    """Responses of the given lengths behind prompts of the given lengths."""
    rng, rows = np.random.default_rng(seed), list[Encoded]()
    for group, (prompt, sizes) in enumerate(problems):
        asked = rng.integers(400, size=prompt)
        for n in sizes:
            ids = np.concatenate([asked, rng.integers(400, size=n)]).astype(np.int32)
            rows.append(Encoded(ids, prompt, np.zeros(n, dtype=np.int32), 1.0, group, len(rows)))
    return rows


def untied(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, max_position_embeddings=512, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()  # type: ignore[no-any-return]


def packed(seed: int) -> LlamaForCausalLM:
    model = small_llama(seed)
    model.set_attn_implementation(PACKED)
    return model


MODELS = {"tied": small_llama(0), "untied": untied(0), "packed": packed(0)}
problems = st.lists(
    st.tuples(st.integers(1, 20), st.lists(st.integers(0, 30), min_size=1, max_size=4)), min_size=1, max_size=5
)


def logps_and_gradient(name: str, rows: Sequence[Encoded], *, share: bool) -> tuple[Tensor, Tensor]:
    model = MODELS[name]
    model.zero_grad()
    logps = token_logps(model, collate(rows, share_prompts=share))
    (logps.sum(1) * torch.arange(1, len(rows) + 1)).mean().backward()
    return logps.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("part", [1, 40, 2048])
@pytest.mark.parametrize("name", list(MODELS))
@settings(max_examples=8, deadline=None)
@given(problems=problems, seed=st.integers(0, 9))
def test_sharing_changes_neither_logps_nor_gradients(
    name: str, part: int, problems: list[tuple[int, list[int]]], seed: int
) -> None:
    rows = rows_of(problems, seed)
    np.random.default_rng(seed).shuffle(rows)
    before = dict(shared_prompts.PART)
    shared_prompts.PART["cpu"] = part
    try:
        ours, theirs = (logps_and_gradient(name, rows, share=share) for share in (True, False))
    finally:
        shared_prompts.PART.update(before)
    rounding = network_bound(sum(map(len, rows)), largest(theirs[0]))
    assert_close(ours[0], theirs[0], rtol=0, atol=rounding)
    assert_close(ours[1], theirs[1], rtol=1e-3, atol=1e-3 * float(theirs[1].abs().max()) / 10 + 1e-6)


def test_each_prompt_goes_through_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of([(7, [3, 5, 4]), (9, [2, 2])])
    seen: list[int] = []
    model = small_llama(0)
    model.base_model.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    with torch.no_grad():
        token_logps(model, collate(rows, share_prompts=True))
        assert seen == [2 * 9, 5 * 5]  # two prompts padded to 9, five responses padded to 5
        seen.clear()
        model.set_attn_implementation(PACKED)
        token_logps(model, collate(rows, share_prompts=True))
    assert seen == [7 + 9 + 3 + 5 + 4 + 2 + 2]


def test_models_that_cannot_share_say_why() -> None:
    assert why_not_shared(small_llama(0)) is None
    config = MistralConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    windowed: Any = MistralForCausalLM(config).eval()
    assert "a window of 8 tokens" in str(why_not_shared(windowed))
    windowed.set_attn_implementation(PACKED)
    assert why_not_shared(windowed) is None  # a packed row masks what is behind as well
    flash = small_llama(0)
    flash.config._attn_implementation = "flash_attention_2"
    assert "its attention is flash_attention_2" in str(why_not_shared(flash))
    with pytest.raises(ValueError, match="flash_attention_2 cannot share prompts"):
        token_logps(flash, collate(rows_of([(3, [2, 2])]), share_prompts=True))
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()
    assert why_not_shared(gpt) is None  # learned positions, given explicitly


def test_a_model_with_other_positions_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_llama(0)
    inner = model.base_model.forward

    def deaf(**given: object) -> object:
        given.pop("position_ids", None)
        return inner(**given)

    monkeypatch.setattr(model.base_model, "forward", deaf)
    assert "differ by" in str(why_not_shared(model))


def test_a_model_without_a_cache_is_refused() -> None:
    model = small_llama(0).train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(ValueError, match="keeps no keys and values"):
        token_logps(model, collate(rows_of([(3, [2, 2])]), share_prompts=True))


@settings(deadline=None)
@given(problems=problems, budget=st.sampled_from([1, 30, 1000]), may_share=st.booleans())
def test_plans_hold_every_row_once_within_the_budget(
    problems: list[tuple[int, list[int]]], budget: int, may_share: bool
) -> None:
    rows = rows_of(problems)
    plan = list(planned(rows, budget, may_share=may_share))
    assert sorted(i for batch, _ in plan for i in batch) == list(range(len(rows)))
    assert may_share or not any(shares for _, shares in plan)
    for batch, shares in plan:
        prompts = {rows[i].ids[: rows[i].prompt_length].tobytes(): rows[i].prompt_length for i in batch}
        once = sum(prompts.values()) + sum(len(rows[i]) - rows[i].prompt_length for i in batch)
        tokens = once if shares else len(batch) * max(len(rows[i]) for i in batch)
        assert tokens <= budget or len(batch) == 1


def test_batches_keep_rows_of_shared_prompts() -> None:
    rows = rows_of([(4, [3]), (7, [3, 5, 4]), (9, [2, 2])])
    whole = collate(rows, share_prompts=True)
    with torch.no_grad():
        every = token_logps(MODELS["tied"], whole)
        some = token_logps(MODELS["tied"], whole.keep([5, 2, 3]))
    rounding = network_bound(sum(map(len, rows)), largest(every))
    assert_close(some, every[[5, 2, 3]], rtol=0, atol=rounding)
