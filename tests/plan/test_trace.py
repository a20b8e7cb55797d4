"""Bytes traced on tensors without data are those that real ones take, and follow the law they should."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lit_prm.commands.plan.network import Adapter, config_of, from_fields, known_shapes, weights, with_layers
from lit_prm.commands.plan.trace import Live, Pass, optimizer_memory, step_memory
from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.models.adapters import with_new_adapter
from lit_prm.models.logps import position_logps, states_at
from tests.rounding import float32_bound, largest

SMALL: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 5, "num_attention_heads": 6,
    "num_key_value_heads": 2, "vocab_size": 64, "tie_word_embeddings": False,
}  # fmt: skip


def saved(model: Any, ids: torch.Tensor | Batch) -> int:
    """Bytes that autograd keeps of a real forward pass of the body, without weights; counted by another hook.

    A batch is run as training runs it.
    """
    mine = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in mine:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = (
            states_at(model, ids, ids.in_response)
            if isinstance(ids, Batch)
            else model.base_model(inputs_embeds=model.get_input_embeddings()(ids), use_cache=False).last_hidden_state
        )
    if isinstance(ids, torch.Tensor):
        kept.pop(ids.untyped_storage().data_ptr(), None)
    assert out.requires_grad
    return sum(t.untyped_storage().nbytes() for t in kept.values())


@pytest.mark.parametrize("tied", [True, False])
def test_what_a_body_keeps_is_what_autograd_saves_of_a_real_one(tied: bool) -> None:
    config = from_fields(SMALL | {"tie_word_embeddings": tied})
    model: Any = AutoModelForCausalLM.from_config(config)
    found = step_memory(config, Pass(tokens=200, outputs=100)).kept
    assert found == pytest.approx(saved(model.train(), torch.zeros((1, 200), dtype=torch.long)), rel=0.03)


def test_what_a_layer_keeps_follows_the_formula() -> None:
    """6 H for norms and residuals, 2 (A + K) D for attention, 4 I for a gated MLP; numbers of float32 per token."""
    config = from_fields(SMALL)
    h, i, a, k, d = 48, 80, 6, 2, 8
    one, more = (step_memory(from_fields(SMALL | {"num_hidden_layers": n}), Pass(400, 10)).kept for n in (1, 2))
    assert config.head_dim == d
    assert (more - one) / 400 / 4 == pytest.approx(6 * h + 2 * (a + k) * d + 4 * i, rel=0.15)


def test_memory_is_linear_in_tokens_and_in_layers() -> None:
    at = {n: step_memory(from_fields(SMALL), Pass(n, n // 2)) for n in (100, 200, 400)}
    assert at[400].kept - at[200].kept == 2 * (at[200].kept - at[100].kept)
    deep = {n: step_memory(from_fields(SMALL | {"num_hidden_layers": n}), Pass(64, 32)).kept for n in (2, 3, 5)}
    assert deep[5] - deep[3] == 2 * (deep[3] - deep[2])


def test_checkpointing_keeps_the_input_of_each_layer_alone() -> None:
    found = step_memory(from_fields(SMALL), Pass(400, 10, checkpointing=True))
    plain = step_memory(from_fields(SMALL), Pass(400, 10))
    layers = 5 * 400 * 48 * 4
    assert layers <= found.kept <= layers + 4 * 400 * 48 * 4 + 4 * 400 * 8 * 2  # norm, rotary
    assert found.layer > plain.layer  # one layer is made again


def test_logits_are_never_more_than_chunks() -> None:
    wide = from_fields(SMALL | {"vocab_size": 5000})
    few, many = (step_memory(wide, Pass(n, n)).head for n in (4096, 4 * 4096))
    assert 2 * 4096 * 5000 * 4 < few < 4.5 * 4096 * 5000 * 4
    assert many < 1.2 * few


def test_no_outputs_need_no_logits() -> None:
    assert step_memory(from_fields(SMALL), Pass(100, 0)).head < 3 * 100 * 48 * 4


@pytest.mark.parametrize("name", [name for name in sorted(known_shapes()) if not name.startswith(".cache/")])
def test_known_shapes_have_the_parameters_their_publishers_state(name: str) -> None:
    stated = {
        "8B": 8_030_261_248,
        "70B": 70_553_706_496,
        "1.5B": 1_543_714_304,
        "0.5B": 494_032_768,
        "135M": 134_515_008,
    }
    config, source = config_of(name)
    assert source == "lit_prm/commands/plan/models.yaml"
    assert weights(config).all == next(n for size, n in stated.items() if f"-{size}-" in name)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_those_of_a_real_model(tied: bool) -> None:
    config = from_fields(SMALL | {"tie_word_embeddings": tied})
    model: Any = AutoModelForCausalLM.from_config(config)
    found = weights(config, word_head=False)
    assert found.all == sum(p.numel() for p in model.parameters())
    assert found.trained == found.all - (0 if tied else 48 * 64)
    assert found.largest == max(p.numel() for p in model.parameters())


@pytest.mark.parametrize("targets", [(), ("q_proj", "v_proj")])
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_has_the_weights_of_a_real_one(targets: tuple[str, ...], tied: bool) -> None:
    config = from_fields(SMALL | {"tie_word_embeddings": tied})
    real: Any = with_new_adapter(AutoModelForCausalLM.from_config(config), 4, 8.0, 0.0, list(targets) or None)
    found = weights(config, adapter=Adapter(4, targets, 0.0, torch.float32))
    assert found.trained == sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert found.all == sum(p.numel() for p in real.parameters())


def test_what_an_adapted_body_keeps_is_what_autograd_saves_of_a_real_one() -> None:
    config = from_fields(SMALL)
    real: Any = with_new_adapter(AutoModelForCausalLM.from_config(config), 4, 8.0, 0.0, None).get_base_model()
    adapter = Adapter(4, (), 0.0, torch.float32)
    found = step_memory(config, Pass(tokens=200, outputs=100, adapter=adapter)).kept
    assert found == pytest.approx(saved(real.train(), torch.zeros((1, 200), dtype=torch.long)), rel=0.03)


def test_eager_attention_keeps_matrices_of_tokens_by_tokens() -> None:
    config = from_fields(SMALL)
    real: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    found = step_memory(config, Pass(tokens=400, outputs=100, rows=2, attention="eager")).kept
    assert found == pytest.approx(saved(real.train(), torch.zeros((2, 200), dtype=torch.long)), rel=0.05)
    assert found > step_memory(config, Pass(tokens=400, outputs=100)).kept + 5 * 6 * 2 * 200**2 * 4


def test_adamw_keeps_two_moments_and_sgd_nothing() -> None:
    adam = optimizer_memory(torch.optim.AdamW, (), 1000, torch.float32)
    assert adam.kept == 2 * 4000 + 4  # and a count of steps
    assert adam.work >= 4000
    assert optimizer_memory(torch.optim.SGD, (("lr", 0.1),), 1000, torch.float32) == (0, 0)
    assert optimizer_memory(torch.optim.SGD, (("lr", 0.1), ("momentum", 0.9)), 1000, torch.float32).kept == 4000


def test_live_counts_what_is_alive_once() -> None:
    known = torch.zeros(100)
    live = Live([known])
    with live:
        a = torch.ones(10)
        view = a[2:] + 0
        del a
        known.add_(1)
    assert (live.now, live.peak) == (view.untyped_storage().nbytes(), 40 + 32)


def test_a_model_of_several_kinds_of_layers_is_refused() -> None:
    kinds = AutoConfig.for_model(**SMALL)
    kinds.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ValueError, match="2 kinds"):
        with_layers(kinds, 1)


def test_a_shape_is_found_in_a_folder_or_file_and_a_missing_one_lists_the_known(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    assert (
        config_of(str(tmp_path))[0].hidden_size == config_of("x/y", str(tmp_path / "config.json"))[0].hidden_size == 48
    )
    with pytest.raises(ValueError, match=r"\./none has no config\.json.*Llama-3\.1-8B.*--shape"):
        config_of("./none")


def test_the_head_traced_is_the_one_that_trains() -> None:
    states, ids = torch.randn(10, 4), torch.randint(0, 7, (10,))
    head = torch.nn.Linear(4, 7)
    whole = torch.log_softmax(head(states), -1).gather(1, ids.unsqueeze(1)).squeeze(1)
    rounding = float32_bound(4 + 7 + 4, largest(whole) + 4)  # products, classes, a few more; logits below 4
    torch.testing.assert_close(position_logps(head, states, ids, chunk=3), whole, rtol=0, atol=rounding)


@pytest.mark.parametrize("attention", ["packed", "sdpa"])
def test_uneven_responses_keep_what_their_tokens_or_their_padded_rows_do(attention: str) -> None:
    """As training runs them: end to end, or padded to the longest."""
    lengths = [200, 40, 90]
    batch = collate(
        [Encoded(np.zeros(n, np.int32), 10, np.zeros(n - 10, np.int32), 1.0, i, i) for i, n in enumerate(lengths)]
    )
    config = from_fields(SMALL)
    real: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    asked = {"packed": Pass(sum(lengths), 10), "sdpa": Pass(3 * max(lengths), 10, rows=3)}[attention]
    kept = saved(real.train(), batch)
    assert step_memory(config, asked).kept == pytest.approx(kept, rel=0.1)
