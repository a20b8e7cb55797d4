"""Shapes, objectives and data of `benchmarks.updates` for both sides, and the record that a side writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.machine import clocks
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.nca import NCA
from lit_prm.models.flops import Work
from lit_prm.models.reference import Stored
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.module import LitPRM

BETA, RATE = 0.05, 0.1
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3,
    },
    "toy": {
        "vocab_size": 32000, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 4,
    },
    "tiny": {  # as scale tiny
        "vocab_size": 329, "hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3,
        "num_attention_heads": 3, "num_key_value_heads": 3,
    },
    "1.5b": {  # as Qwen2.5-1.5B
        "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2,
    },
}  # fmt: skip


class NoKL(KTO):
    """TRL's apo_zero_unpaired: KTO with zero in place of the KL term."""

    mismatched = False


class Job(NamedTuple):
    """One objective by our name and by TRL's; TRL's loss is ``scale`` times ours. Without ``trl`` only we run it."""

    trl: str | None
    loss: Callable[[], Loss]
    scale: float = 1.0
    problems: int = 1  # of an update
    cuts: int = 1  # micro-batches of an update on our side; TRL's are of one problem each
    lengths: tuple[int, int] = (40, 110)
    epochs: int = 1
    times: int = 1  # the updates asked for
    shape: str | None = None  # whatever is asked for


_TWICE: dict[str, Any] = {"problems": 2, "cuts": 2, "epochs": 2}  # whose updates are all problems, in whatever order
JOBS = {  # what one process trains, one after the other
    "dpo": (Job("sigmoid", DPO),),
    "ce": (Job("bco_pair", CE, 2.0),),
    "kto": (Job("apo_zero_unpaired", NoKL, problems=4, cuts=4, lengths=(30, 400)),),
    "sweep": (
        Job("sigmoid", DPO, **_TWICE), Job("apo_zero_unpaired", NoKL, **_TWICE), Job("nca_pair", NCA, **_TWICE),
        Job("bco_pair", CE, 2.0, **_TWICE),
    ),
    "long": (Job("sigmoid", DPO, problems=4, lengths=(100, 500)),),
    "tiny": (Job(None, DPO, problems=8, lengths=(20, 45), times=20, shape="tiny"),),
}  # fmt: skip


class Seen(NamedTuple):
    """Record of one side; one entry for each update."""

    losses: list[float]  # ours
    ids: list[str]  # digest of the distinct sequences
    ended: list[tuple[float, float]]  # clocks at its end
    work: list[Work]  # of every micro-batch, of ours
    tokens: list[int]  # of its responses, each with its prompt
    gradients: BinaryIO | None  # of our loss, update after update, all parameters of each in float32

    @classmethod
    def into(cls, gradients: BinaryIO | None) -> Seen:
        return cls([], [], [], [], [], gradients)

    def note(self, loss: float, rows: Sequence[Sequence[int]], policy: Any, scale: float = 1.0) -> None:
        """Record the end of an update on these token ids; loss and gradients of the policy are ``scale`` times ours."""
        self.losses.append(loss / scale)
        self.ids.append(digest(rows))
        self.ended.append(clocks(policy.device.type))
        if self.gradients:  # one parameter at a time: peak memory stays that of training
            for parameter in policy.parameters():
                self.gradients.write((parameter.grad.float() / scale).cpu().numpy().tobytes())


def prepare(job: str, folder: Path, shape: str, updates: int) -> None:
    """Write two models, a tokenizer and the rollouts of ``updates`` updates into ``folder``."""
    words = SHAPES[shape]["vocab_size"]
    for seed, name in enumerate(("policy", "reference")):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=8192, eos_token_id=0)
        )
        model.bfloat16().save_pretrained(folder / name)  # weights that every precision can hold
        word_tokenizer(words).save_pretrained(folder / name)
    first = JOBS[job][0]
    write_groups(folder / "rollouts.jsonl", groups(first, words, updates * first.times // first.epochs))


def word_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """A tokenizer with one id for each word, so that both sides get the same ids."""
    core = Tokenizer(models.WordLevel({"<eos>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, words)}}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>"
    )
    return made


def groups(job: Job, words: int, updates: int) -> list[Group]:
    """Problems of 8 random responses, 4 of them right."""
    rng = np.random.default_rng(0)

    def text(low: int, high: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(2, words, size=rng.integers(low, high + 1)))

    return [
        Group(
            problem=Problem(id=str(p), prompt=text(40, 60)),
            rollouts=tuple(Rollout(response=text(*job.lengths), correct=i % 2 == 0) for i in range(8)),
        )
        for p in range(updates * job.problems)
    ]


def module_and_data(job: Job, folder: Path, dtype: str) -> tuple[LitPRM, RolloutDataModule]:
    module = LitPRM(
        ImplicitReward(str(folder / "policy"), beta=BETA, dtype=dtype),
        job.loss(),
        reference=Stored(str(folder / "reference"), str(folder / "store.sqlite"), dtype),
        optimizer=partial(torch.optim.SGD, lr=RATE * job.scale),
        schedule=lambda optimizer, _: LambdaLR(optimizer, lambda _: 1.0),  # type: ignore[arg-type]
    )
    data = RolloutDataModule(
        str(folder / "policy"),
        "rollouts.jsonl",
        root=str(folder),
        batch_size=8 * job.problems,
        max_length=2048,
        share_prompts=True,
    )
    return module, data


def digest(rows: Sequence[Sequence[int]]) -> str:
    """Digest of the set of distinct sequences."""
    return hashlib.sha256(json.dumps(sorted({tuple(row) for row in rows})).encode()).hexdigest()
