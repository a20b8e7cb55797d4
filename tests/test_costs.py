"""FLOPs and tokens: equal to a counter's, hand-computed sizes, and independent of how a run was cut or stopped."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    Qwen3Config,
    T5Config,
)

from callbacks import Costs
from callbacks.costs import _first_stage
from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.losses.ce import CE
from lit_prm.models.flops import (
    Cost,
    FlopsUnknown,
    Shape,
    Spent,
    Work,
    assumptions,
    backward,
    forward,
    generated,
    labelled,
    of_earlier,
    shape_of,
)
from lit_prm.models.reference import Frozen, Reference, Stored, Uniform
from lit_prm.models.reward_model import ImplicitReward, OutcomeHead, RewardModel
from lit_prm.training.module import LitPRM
from lit_prm.training.schedule import WarmupCosine
from tests.conftest import small_llama

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),  # every datum is the same
]

# sizes of the released models' config.json
SMOLLM2_135M = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3,
)  # fmt: skip
LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8,
)  # fmt: skip
SHAPE = shape_of(SMOLLM2_135M)
LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)


# --- a counter that watches the operations --------------------------------------------------------


def whole_square(lengths: list[int], outputs: int) -> Work:
    """What is computed without a causal kernel: every token's scores with every position, half of them thrown away."""
    return Work(sum(lengths), sum(n * n for n in lengths), outputs)


def counted(model: Any, ids: torch.Tensor, *, gradients: bool) -> int:
    model.set_attn_implementation("eager")  # whose products the counter knows on every device
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids, use_cache=False).logits
        if gradients:
            cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize(("batch", "length"), [(1, 7), (3, 64)])
def test_flops_of_a_llama_are_those_of_the_flop_counter(batch: int, length: int) -> None:
    model, ids = small_llama(0), torch.randint(0, 400, (batch, length))
    shape, work = shape_of(model.config), whole_square([length] * batch, batch * length)
    assert forward(shape, work) == counted(model, ids, gradients=False)
    assert forward(shape, work) + backward(shape, work) == counted(model, ids, gradients=True)
    causal = Work.read([length] * batch, batch * length)
    assert forward(shape, work) - forward(shape, causal) == shape.attention * batch * length * (length - 1) // 2


def test_flops_of_a_gpt2_are_those_of_the_flop_counter() -> None:
    config = GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    model, ids = cast(Any, GPT2LMHeadModel(config)), torch.randint(0, 90, (2, 20))
    work = whole_square([20, 20], 40)
    assert forward(shape_of(config), work) == counted(model, ids, gradients=False)
    assert forward(shape_of(config), work) + backward(shape_of(config), work) == counted(model, ids, gradients=True)


# --- shapes -----------------------------------------------------------------------------------------


def test_weights_by_hand() -> None:
    smol, llama = shape_of(SMOLLM2_135M), shape_of(LLAMA_8B)
    assert (smol.body, smol.head) == (106_168_320, 28_311_552)
    assert smol.body + smol.head + 61 * 576 == 134_515_008  # with its norms the published number of parameters
    assert (llama.body, llama.head) == (6_979_321_856, 525_336_576)
    assert llama.body + 2 * llama.head + 65 * 4096 == 8_030_261_248  # with embedding and norms


def test_heads_of_their_own_size_and_an_mlp_of_its_own_width_are_counted() -> None:
    own = shape_of(Qwen3Config(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                               intermediate_size=96, num_hidden_layers=1, vocab_size=90))  # fmt: skip
    assert own == Shape(body=2 * 64 * (4 + 2) * 32 + 3 * 64 * 96, head=64 * 90, attention=4 * 4 * 32)
    wide = shape_of(GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, n_inner=100))
    assert wide == Shape(body=2 * (4 * 32 * 32 + 2 * 32 * 100), head=32 * 90, attention=2 * 4 * 4 * 8)


def sized(family: str, **own: int) -> Any:
    """A configuration of two layers: 4 heads of 16 and 2 of keys and values, 64 wide, an MLP of 96."""
    return cast(Any, CONFIG_MAPPING)[family](
        vocab_size=90, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, bos_token_id=1, eos_token_id=2, pad_token_id=0, **own,
    )  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "qwen2", "gemma3_text", "smollm3"])
def test_dense_families_of_one_size_take_the_same_flops(family: str) -> None:
    attention, mlp = 2 * 64 * (4 + 2) * 16, 3 * 64 * 96
    assert shape_of(sized(family)) == Shape(2 * (attention + mlp), 64 * 90, 4 * 2 * 64)


@pytest.mark.parametrize(
    ("family", "own", "width"),
    [
        ("mixtral", {"num_local_experts": 4}, 96),
        ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 48}, 48),
    ],
)
def test_of_experts_those_are_counted_that_a_token_passes(family: str, own: dict[str, int], width: int) -> None:
    """And the router, which scores all of them."""
    attention, experts, router = 2 * 64 * (4 + 2) * 16, 2 * 3 * 64 * width, 4 * 64
    assert shape_of(sized(family, num_experts_per_tok=2, **own)).body == 2 * (attention + experts + router)


def test_counting_leaves_the_config_and_the_random_numbers_as_they_are() -> None:
    config = sized("qwen2", rope_theta=3)
    before, state = config.to_dict(), torch.get_rng_state()
    shape_of(config)
    assert config.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_cannot_be_counted_is_refused_with_its_type_and_the_remedy() -> None:
    with pytest.raises(FlopsUnknown, match=r"type 't5' .*causal language model.*without the callback Costs"):
        shape_of(T5Config())


# --- work -------------------------------------------------------------------------------------------


@given(LENGTHS)
def test_contexts_equal_a_loop_over_tokens(pairs: list[tuple[int, int]]) -> None:
    lengths, outputs = [p + n for p, n in pairs], sum(n for _, n in pairs)
    assert Work.read(lengths, outputs) == Work(sum(lengths), sum(t + 1 for n in lengths for t in range(n)), outputs)


@given(LENGTHS)
def test_writing_equals_a_loop_over_steps_of_a_decoder(pairs: list[tuple[int, int]]) -> None:
    work = Work()
    for prompt, response in pairs:
        work += Work.read([prompt], 1)  # the prompt, for the first token's logits
        for t in range(1, response):  # each token but the last is read for the next one's
            work += Work(tokens=1, contexts=prompt + t, outputs=1)
    prompts, responses = zip(*pairs, strict=True)
    assert Work.written(prompts, responses) == work


@given(LENGTHS)
def test_equal_lengths_need_the_least_attention(pairs: list[tuple[int, int]]) -> None:
    lengths = [p + n for p, n in pairs]
    even = Work.even(sum(lengths), len(lengths), 3)
    assert even.tokens == sum(lengths)
    assert even.contexts <= Work.read(lengths, 3).contexts
    assert Work.even(5 * lengths[0], 5, 3) == Work.read([lengths[0]] * 5, 3)


def test_flops_are_counted_in_whole_numbers_of_any_size() -> None:
    llama = shape_of(LLAMA_8B)
    paper = Work.read([600] * 263_536, 450 * 263_536)  # more than 2^61
    assert forward(llama, paper) == 263_536 * forward(llama, Work.read([600], 450))
    assert backward(llama, paper) > 2**61


# --- what was spent ---------------------------------------------------------------------------------


def test_generation_of_equal_rollouts_is_exact() -> None:
    counts = {"rollout_responses": 3, "rollout_prompt_tokens": 60, "rollout_response_tokens": 90}
    assert generated(counts, SHAPE) == Cost(150, forward(SHAPE, Work.written([20] * 3, [30] * 3)))
    assert generated({}, SHAPE) == Cost()


def test_labelling_adds_what_was_sampled_and_what_was_scored() -> None:
    rollouts = {"rollout_responses": 2, "rollout_prompt_tokens": 40, "rollout_response_tokens": 60}
    other = shape_of(GPT2Config())
    assert labelled(rollouts, SHAPE, other) == Cost()
    sampled = {**rollouts, "labelling_prompt_tokens": 120, "labelling_generated_tokens": 80}  # four rollouts long
    wanted = forward(SHAPE, Work.read([50] * 4, 80))
    assert labelled(sampled, SHAPE, other) == Cost(200, wanted)
    scored = labelled({**sampled, "labelling_scored_tokens": 100}, SHAPE, other)
    assert scored == Cost(300, wanted + forward(other, Work.read([50] * 2, 0)))


def test_metrics_are_the_parts_their_total_and_the_papers_axis() -> None:
    metrics = Spent(Cost(1, 10), Cost(2, 200), Cost(4, 3000), Cost(8, 40_000), Cost(16, 500_000)).as_metrics()
    assert metrics["cost/total_tokens"] == 31
    assert metrics["cost/total_flops"] == 543_210
    assert metrics["cost/reference_flops"] == 3000
    assert len(metrics) == 12
    assert of_earlier(metrics) == Cost(28, 543_000)  # a second stage samples no rollouts anew


def test_what_is_left_out_is_told() -> None:
    for words in ("padding", "optimizer", "KV cache", "backward = 2 x forward", "Not counted: evaluation"):
        assert words in assumptions()


def test_a_second_stage_counts_the_first_ones_training(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    assert _first_stage(None) == Cost()
    with pytest.raises(ValueError, match=r"summary\.json beside .*last\.ckpt"):
        _first_stage(last)
    (tmp_path / "summary.json").write_text(json.dumps({"metrics": Spent(training=Cost(3, 70)).as_metrics()}))
    assert _first_stage(last) == Cost(3, 70)


# --- during training --------------------------------------------------------------------------------


def encoded(row: int, prompt: int, response: int) -> Encoded:
    ids = torch.arange(prompt + response).numpy().astype("int32") % 50
    return Encoded(ids, prompt, torch.zeros(response).int().numpy(), float(row % 2), row // 2, row)


ROWS = [encoded(i, 3 + i, 9 - i) for i in range(6)] + [encoded(6, 20, 5), encoded(7, 2, 30)]
ONCE = Work.read([len(r) for r in ROWS], sum(len(r) - r.prompt_length for r in ROWS))


class Micro(torch.utils.data.Dataset[Batch]):
    """Rows, ``size`` to a micro-batch; each may bring the first row of all as a mismatched one."""

    def __init__(self, size: int, rows: list[Encoded] = ROWS, *, mismatched: bool = False) -> None:
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        extra = (collate(ROWS[:1]),) if mismatched else ()
        self.batches = [collate(part, rows, mismatched=extra) for part in parts]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> Batch:
        return self.batches[i]


class Stop(Callback):
    """Saves the run after so many micro-batches."""

    def __init__(self, path: Path, after: int) -> None:
        self.path, self.after = path, after

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.after and not self.path.exists():
            trainer.save_checkpoint(self.path, weights_only=False)


def train(
    model: RewardModel, data: Micro, epochs: int = 1, stop: Stop | None = None, ckpt_path: Path | None = None
) -> dict[str, float]:
    """The metrics of a training on ``data``."""
    module = LitPRM(model, CE(), optimizer=lambda p: torch.optim.SGD(p, lr=0.01), schedule=WarmupCosine(0, 1))
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Costs(), *([stop] if stop else [])],
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, batch_size=None), ckpt_path=ckpt_path, weights_only=False)
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("cost/")}


def config_of(folder: Path) -> LlamaConfig:
    return LlamaConfig.from_pretrained(folder)


def implicit(folder: Path, reference: Reference | None = None) -> ImplicitReward:
    return ImplicitReward(str(folder), reference or Frozen(str(folder)))


def small_config(family: str) -> Any:
    """A model of tiny sizes."""
    sizes: dict[str, Any] = {
        "vocab_size": 500, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "moe_intermediate_size": 32,
        "num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1,
    }  # fmt: skip
    return AutoConfig.for_model(family, **sizes)


@pytest.mark.parametrize("family", ["gemma2", "phi3", "mixtral", "qwen3_moe"])
def test_costs_of_every_architecture_are_logged(tmp_path: Path, family: str) -> None:
    config = small_config(family)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    costs = train(implicit(tmp_path, Uniform()), Micro(2), epochs=1)
    shape = shape_of(config)
    assert costs["cost/training_flops"] == 3 * forward(shape, ONCE)


def test_a_model_of_unknown_flops_is_trained_without_costs_and_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(config: Any) -> Any:
        raise FlopsUnknown(f"FLOPs of {config.model_type} are unknown.")

    AutoModelForCausalLM.from_config(small_config("phi3")).save_pretrained(tmp_path)
    monkeypatch.setattr("callbacks.costs.shape_of", unknown)
    with pytest.warns(UserWarning, match="Costs logs no cost metrics in this run: FLOPs of phi3") as warned:
        assert train(implicit(tmp_path, Uniform()), Micro(2), epochs=2) == {}
    assert sum("Costs" in str(w.message) for w in warned) == 1


def test_ones_own_module_is_trained_without_costs() -> None:
    class Own(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return cast(torch.Tensor, self.layer(torch.ones(1, 1)).sum())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Costs()],
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"Costs logs no cost metrics in this run: Own has no reward_model of lit_prm"):
        trainer.fit(Own(), DataLoader(cast(Any, [1, 2])))
    assert not [name for name in trainer.callback_metrics if name.startswith("cost/")]


def test_training_costs_three_passes_an_epoch_and_the_reference_one_in_all(policy_folder: Path) -> None:
    shape = shape_of(config_of(policy_folder))
    found = train(implicit(policy_folder), Micro(2), epochs=3)
    assert found["cost/training_tokens"] == 3 * ONCE.tokens
    assert found["cost/training_flops"] == 9 * forward(shape, ONCE)
    assert found["cost/reference_tokens"] == ONCE.tokens
    assert found["cost/reference_flops"] == forward(shape, ONCE)
    assert found["cost/generation_flops"] == 0  # no data module counted its data
    assert found["cost/total_flops"] == 10 * forward(shape, ONCE)


def test_costs_do_not_depend_on_micro_batches_or_a_warm_store(policy_folder: Path, tmp_path: Path) -> None:
    def stored() -> Stored:
        return Stored(str(policy_folder), str(tmp_path / "r.sqlite"))

    alone = train(implicit(policy_folder), Micro(8))
    assert train(implicit(policy_folder), Micro(3)) == alone
    cold, warm = train(implicit(policy_folder, stored()), Micro(8)), train(implicit(policy_folder, stored()), Micro(8))
    assert cold == warm == alone


def test_the_reference_has_its_own_shape_and_none_is_free(policy_folder: Path, tmp_path: Path) -> None:
    small = small_llama(3, vocab=500, layers=1)
    small.save_pretrained(tmp_path)
    found = train(implicit(policy_folder, Frozen(str(tmp_path))), Micro(8))
    assert found["cost/reference_flops"] == forward(shape_of(small.config), ONCE)
    none = train(implicit(policy_folder, Uniform()), Micro(8))
    assert (none["cost/reference_flops"], none["cost/reference_tokens"]) == (0, 0)
    assert none["cost/training_flops"] == found["cost/training_flops"]


def test_a_value_head_needs_neither_words_nor_a_reference(policy_folder: Path) -> None:
    found = train(OutcomeHead(str(policy_folder)), Micro(8))
    body = Work(ONCE.tokens, ONCE.contexts, 0)
    assert found["cost/training_flops"] == 3 * forward(shape_of(config_of(policy_folder)), body)
    assert found["cost/reference_flops"] == 0


def test_mismatched_responses_are_read_once_an_update_by_the_policy_and_once_by_the_reference(
    policy_folder: Path,
) -> None:
    shape = shape_of(config_of(policy_folder))
    plain = train(implicit(policy_folder), Micro(4), epochs=2)
    found = train(implicit(policy_folder), Micro(4, mismatched=True), epochs=2)
    one = Work.read([len(ROWS[0])], len(ROWS[0]) - ROWS[0].prompt_length)
    assert found["cost/training_flops"] - plain["cost/training_flops"] == 4 * forward(shape, one)
    assert found["cost/reference_flops"] - plain["cost/reference_flops"] == 2 * forward(shape, one)
    assert found["cost/training_tokens"] - plain["cost/training_tokens"] == 4 * one.tokens


@pytest.mark.parametrize("after", [3, 8, 11])
def test_a_resumed_run_costs_what_one_never_stopped_does(policy_folder: Path, tmp_path: Path, after: int) -> None:
    stop, same = Stop(tmp_path / "stopped.ckpt", after), Micro(1, ROWS[:1] * 8)  # every datum is the same
    whole = train(implicit(policy_folder), same, epochs=2, stop=stop)
    resumed = train(implicit(policy_folder), same, epochs=2, ckpt_path=stop.path)
    assert resumed == whole
    assert whole["cost/training_tokens"] == 16 * len(ROWS[0])
    assert whole["cost/reference_tokens"] == 8 * len(ROWS[0])


def test_counts_are_those_of_all_ranks_also_after_a_restart() -> None:
    def two_ranks() -> Any:
        twice = SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda tensor, reduce_op: 2 * tensor)
        return SimpleNamespace(strategy=twice, current_epoch=0)

    def count(costs: Costs) -> dict[str, Any]:
        costs.on_train_batch_end(two_ranks(), cast(Any, None), None, collate(ROWS), 0)
        return costs.state_dict()

    first, second = Costs(), Costs()
    first.setup(two_ranks(), cast(Any, None), "fit")
    second.setup(two_ranks(), cast(Any, None), "fit")
    state = count(first)
    assert state["trained"]["tokens"] == 2 * ONCE.tokens
    second.load_state_dict(state)
    assert count(second)["trained"]["tokens"] == 4 * ONCE.tokens


def test_the_generator_may_be_of_another_shape(policy_folder: Path, tmp_path: Path) -> None:
    other = small_llama(3, layers=1)
    other.save_pretrained(tmp_path)
    counts = {"rollout_responses": 8, "rollout_prompt_tokens": 60, "rollout_response_tokens": 9_000_001}
    module: Any = SimpleNamespace(
        start=None, reward_model=implicit(policy_folder), log_dict=lambda metrics: logged.update(metrics)
    )
    module.reward_model.configure_model()
    logged: dict[str, torch.Tensor] = {}
    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda tensor, reduce_op: tensor)
    trainer: Any = SimpleNamespace(strategy=strategy, datamodule=SimpleNamespace(spent=lambda: counts))
    costs = Costs(generator=str(tmp_path))
    costs.setup(trainer, module, "fit")
    costs.on_fit_start(trainer, module)
    costs.on_train_epoch_end(trainer, module)
    assert int(logged["cost/generation_flops"]) == generated(counts, shape_of(other.config)).flops  # not rounded
    assert int(logged["cost/generation_tokens"]) == 9_000_061
