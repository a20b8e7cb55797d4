"""Small real models and tokenizers that every test may share."""

from __future__ import annotations

import gc
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing downloads in tests
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:  # the process that only deals tests out to workers, which reads this file too, needs no torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from lit_prm.data.records import Group
    from lit_prm.training.worlds.tinymath.problems import TinyProblem

settings.register_profile("quick", max_examples=40)  # make test
settings.register_profile("thorough", max_examples=400)  # make test-slow

# a TinyMath of seconds, as init_args of data.world in a config
MICRO: dict[str, Any] = {
    "seed": 0, "train_problems": 24, "validation_problems": 6, "test_problems": 6, "responses": 8,
    "validation_candidates": 4, "test_candidates": 4, "other_test_problems": 4, "irrelevant_problems": 8,
    "hidden": 32, "layers": 1, "steps": 4, "generator_steps": 2, "weaker_steps": 1, "expert_steps": 1,
    "batch_size": 4, "workers": 1,
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


def pytest_collection_finish() -> None:
    """What the imports have made stays: looking through it again and again would be up to a tenth of all work."""
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker to ask for it makes, and the others find."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    folder = (factory.getbasetemp() if alone else factory.getbasetemp().parent) / name
    with FileLock(folder.with_suffix(".lock")):
        if not (made := folder.with_suffix(".made")).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


class Touch:
    """A harmless payload: read back from a pickle, it would make this folder, which lies in the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def byte_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a chat template, trained on two lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

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
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

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
    """What ``TinyMath(**MICRO)`` builds; whoever asks may leave other files there."""
    from lit_prm.training.worlds.tinymath import TinyMath

    return made_once(tmp_path_factory, "built", lambda root: TinyMath(**MICRO).build(root))


@pytest.fixture(scope="session")
def micro_world(built_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a world to train in, left unchanged by whoever asks; building ``MICRO`` here returns at once."""

    def make(root: Path) -> None:
        shutil.copytree(built_world, root, symlinks=True, dirs_exist_ok=True)
        make_half_right(root)

    return made_once(tmp_path_factory, "micro", make)


def make_half_right(root: Path) -> None:
    """Replace every second response of ``TinyMath(**MICRO)`` by a right solution.

    Four updates teach no arithmetic, but there must be labels of both kinds, pairs and first errors.
    """
    from lit_prm.data.formats import read_groups, write_groups
    from lit_prm.training.worlds.tinymath import TinyMath

    world = TinyMath(**MICRO)
    for folder, files in (("rollouts", world.rollouts), ("candidates", world.candidates)):
        for name, asked in files.items():
            path, rng = root / folder / f"{name}.jsonl", random.Random(name)
            pairs = zip(read_groups(str(path)).groups, world.problem_texts()[asked.split], strict=False)
            write_groups(path, [_half_right(group, problem, rng) for group, problem in pairs])


def _half_right(group: Group, problem: TinyProblem, rng: random.Random) -> Group:
    from lit_prm.data.records import Group, Rollout
    from lit_prm.training.worlds.tinymath.checker import first_error
    from lit_prm.training.worlds.tinymath.solutions import write_solution

    rollouts = list(group.rollouts)
    for i in range(0, len(rollouts), 2):
        right = write_solution(problem, rng)
        assert first_error(problem, right) == -1
        rollouts[i] = Rollout(
            response=right, correct=True, answer=problem.answer, steps=tuple(right.splitlines(keepends=True)),
            first_error=-1, generator=rollouts[i].generator,
        )  # fmt: skip
    return Group(problem=group.problem, rollouts=tuple(rollouts))
