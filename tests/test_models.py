from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
from torch.testing import assert_close
from transformers import LlamaConfig, PreTrainedTokenizerFast

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.models.language_model import load_model, load_tokenizer
from lit_prm.models.logps import token_logps
from lit_prm.models.probes import check_readable
from lit_prm.models.weights import weights_hash
from tests import reference
from tests.conftest import small_llama
from tests.rounding import largest, network_bound

RESPONSES = ("14", "Step 1: Add.\n\nStep 2: Double it: 7 * 2 = 14.", "最后 除以 2", "")


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    group = Group(
        problem=Problem(prompt="What is 2 * (3 + 4)?", id="p"),
        rollouts=tuple(Rollout(response=r, correct=i == 0) for i, r in enumerate(RESPONSES)),
    )
    return Encoder(tokenizer, BlankLine()).encode([group])


@pytest.fixture(scope="module")
def batch(rows: list[Encoded]) -> Batch:
    return collate(rows)


def test_token_logps_equal_one_softmax_per_prefix(policy_folder: Path, rows: list[Encoded], batch: Batch) -> None:
    model = load_model(str(policy_folder))
    logps = token_logps(model, batch)
    for i, row in enumerate(rows):
        slow = torch.tensor(reference.token_logps(model, row.ids.tolist(), row.prompt_length))
        rounding = network_bound(len(row), largest(logps))
        assert_close(logps[i, row.prompt_length : len(row)], slow, rtol=0, atol=rounding)
    assert (logps[~batch.in_response] == 0).all()


def test_padding_order_and_chunks_change_neither_logps_nor_gradients(policy_folder: Path, rows: list[Encoded]) -> None:
    """Law 5: the same response in any company."""

    def sums_and_gradient(items: list[Encoded], chunk: int = 4096) -> tuple[dict[int, float], torch.Tensor]:
        model = load_model(str(policy_folder))
        sums = token_logps(model, collate(items), chunk).sum(1)
        sums.sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return {r.row: s for r, s in zip(items, sums.tolist(), strict=True)}, gradient

    sums, gradient = sums_and_gradient(rows)
    tokens = sum(map(len, rows))
    relative = network_bound(tokens, 1.0)  # of sums of log-probs, all of one sign
    rounding = network_bound(tokens, largest(gradient), gradient=True)
    for items, chunk in [(rows[::-1], 4096), (rows, 7)]:
        other, other_gradient = sums_and_gradient(items, chunk)
        assert other == pytest.approx(sums, rel=relative)
        assert_close(other_gradient, gradient, rtol=0, atol=rounding)
    alone = [sums_and_gradient([row]) for row in rows]
    assert {k: v for one, _ in alone for k, v in one.items()} == pytest.approx(sums, rel=relative)
    assert_close(sum(g for _, g in alone), gradient, rtol=0, atol=rounding)


def test_a_model_that_changes_its_logits_is_refused() -> None:
    model = small_llama(0)
    check_readable(model)
    model.register_forward_hook(lambda _m, _i, out: setattr(out, "logits", torch.tanh(out.logits)))
    with pytest.raises(ValueError, match="changes its logits after the output head"):
        check_readable(model)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_missing_folder_is_named(load: object) -> None:
    with pytest.raises(ValueError, match=r"'~/models/m' begins with ~, which only shells expand\. Write /"):
        load_tokenizer("~/models/m")
    with pytest.raises(ValueError, match=r"Model folder './nowhere' does not exist"):
        load("./nowhere")  # type: ignore[operator]


def test_an_unknown_dtype_lists_the_known(policy_folder: Path) -> None:
    with pytest.raises(ValueError, match="dtype 'fp8' is not one of auto, float32"):
        load_model(str(policy_folder), "fp8")


CONFIG: dict[str, Any] = dict(
    vocab_size=60, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "tied", "told"),
    [
        ("ForTokenClassification", False, r"lacks lm_head.weight and holds score.bias, score.weight, which a Llama"),
        ("ForSequenceClassification", False, r"lacks lm_head.weight and holds score.weight, which"),
        ("ForSequenceClassification", True, r"classifier holds score.weight, which a LlamaForCausalLM does not have"),
        ("Model", False, r"classifier lacks lm_head.weight, so it is not a language model"),
    ],
)
def test_a_language_model_is_never_given_a_random_head(
    architecture: str, tied: bool, told: str, tmp_path: Path
) -> None:
    config = cast(Any, LlamaConfig)(
        **CONFIG, num_labels=1 + (architecture == "ForTokenClassification"), tie_word_embeddings=tied
    )
    getattr(transformers, f"Llama{architecture}")(config).save_pretrained(tmp_path / "classifier")
    with pytest.raises(ValueError, match=told):
        load_model(str(tmp_path / "classifier"))


def test_a_language_model_that_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    model = transformers.LlamaForCausalLM(LlamaConfig(**CONFIG))
    weights = {name: w for name, w in model.state_dict().items() if "down_proj" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks model.layers.0.mlp.down_proj.weight, so"):
        load_model(str(tmp_path))


def test_what_lies_beside_a_model_and_is_not_loaded_is_no_part_of_its_hash(policy_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(policy_folder, tmp_path / "model")
    before = weights_hash(str(folder))
    for name in ("training_args.bin", "optimizer.bin", "scheduler.bin", "pytorch_model.bin"):
        (folder / name).write_bytes(b"of a trainer, or an older copy")
    assert weights_hash(str(folder)) == before
    (folder / "model.safetensors").unlink()  # now the other copy is loaded
    alone = weights_hash(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"other weights")
    assert len({before, alone, weights_hash(str(folder))}) == 3
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.bin").write_bytes(b"an adapter")
    adapted = weights_hash(str(folder))
    (folder / "adapter_model.bin").write_bytes(b"another one")
    assert weights_hash(str(folder)) != adapted
    (folder / "pytorch_model.bin").unlink()
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(ValueError, match="holds no weights"):
        weights_hash(str(folder))
