"""Small real models and tokenizers that every test may share."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing downloads in tests
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lit_prm.data.formats import read_groups, write_groups
from lit_prm.data.records import Group, Rollout
from lit_prm.training.worlds.tinymath import TinyMath
from lit_prm.training.worlds.tinymath.checker import first_error
from lit_prm.training.worlds.tinymath.problems import TinyProblem
from lit_prm.training.worlds.tinymath.solutions import write_solution

torch.set_num_threads(1)

# a TinyMath of seconds, as init_args of data.world in a config
MICRO: dict[str, Any] = {
    "seed": 0, "train_problems": 24, "validation_problems": 6, "test_problems": 6, "responses": 8,
    "validation_candidates": 4, "test_candidates": 4, "other_test_problems": 4, "irrelevant_problems": 8,
    "hidden": 32, "layers": 1, "steps": 4, "generator_steps": 2, "weaker_steps": 1, "batch_size": 4, "workers": 1,
}  # fmt: skip

CORPUS = [
    "Step 1: Add 3 and 4 to get 7.\n\nStep 2: Double it: 7 * 2 = 14.\n\nThe answer is \\boxed{14}.",
    "Find the sum of the first five odd numbers. Zuerst addieren wir; ensuite on multiplie; 最后 除以 2.",
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_configure(config: pytest.Config) -> None:
    """What Lightning does to itself is not ours to fix."""
    config.addinivalue_line("filterwarnings", "ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
    config.addinivalue_line("filterwarnings", "ignore:.*does not have many workers")


def byte_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a chat template, trained on two lines."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    fast: PreTrainedTokenizerFast = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|im_end|>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = template
    return fast


def small_llama(seed: int, vocab: int = 400, layers: int = 2) -> LlamaForCausalLM:
    """A random Llama of 30,000 parameters whose logits are not flat."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, tie_word_embeddings=True,
    )  # fmt: skip
    return cast(LlamaForCausalLM, cast(Any, LlamaForCausalLM(config)).eval())


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    small_llama(0, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    small_llama(1, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def built_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``TinyMath(**MICRO)`` builds."""
    root = tmp_path_factory.mktemp("built")
    TinyMath(**MICRO).build(root)
    return root


@pytest.fixture(scope="session")
def micro_world(built_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a world to train in, left unchanged by whoever asks; building ``MICRO`` here returns at once."""
    root = shutil.copytree(built_world, tmp_path_factory.mktemp("micro") / "world", symlinks=True)
    make_half_right(root)
    return root


def make_half_right(root: Path) -> None:
    """Replace every second response of ``TinyMath(**MICRO)`` by a right solution.

    Four updates teach no arithmetic, but there must be labels of both kinds, pairs and first errors.
    """
    world = TinyMath(**MICRO)
    for folder, files in (("rollouts", world.rollouts), ("candidates", world.candidates)):
        for name, asked in files.items():
            path, rng = root / folder / f"{name}.jsonl", random.Random(name)
            pairs = zip(read_groups(str(path)).groups, world.problem_texts()[asked.split], strict=False)
            write_groups(path, [_half_right(group, problem, rng) for group, problem in pairs])


def _half_right(group: Group, problem: TinyProblem, rng: random.Random) -> Group:
    rollouts = list(group.rollouts)
    for i in range(0, len(rollouts), 2):
        right = write_solution(problem, rng)
        assert first_error(problem, right) == -1
        rollouts[i] = Rollout(
            response=right, correct=True, answer=problem.answer, steps=tuple(right.splitlines(keepends=True)),
            first_error=-1, generator=rollouts[i].generator,
        )  # fmt: skip
    return Group(problem=group.problem, rollouts=tuple(rollouts))
