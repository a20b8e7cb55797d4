"""One measurement of `benchmarks.updates`: one side trains one job in this process and prints what it took as JSON."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from callbacks.references import FillReference
from lit_prm.batch import Batch
from lit_prm.batching import Updates
from lit_prm.data import RolloutDataModule
from lit_prm.formats import read_groups, write_groups
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.nca import NCA
from lit_prm.module import LitPRM
from lit_prm.records import Group, Problem, Rollout
from lit_prm.reference import Stored
from lit_prm.reward_model import ImplicitReward

BETA, RATE = 0.05, 1e-2
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3,
    },
    "toy": {
        "vocab_size": 32000, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 4,
    },
}  # fmt: skip


class NoKL(KTO):
    """TRL's apo_zero_unpaired: KTO measured from zero, not from the KL."""

    mismatched = False


class Job(NamedTuple):
    """One objective in both vocabularies; TRL's loss is ``scale`` times ours."""

    trl: str
    loss: Callable[[], Loss]
    scale: float = 1.0
    problems: int = 1  # of an update
    lengths: tuple[int, int] = (40, 110)
    epochs: int = 1


_TWICE: dict[str, Any] = {"problems": 4, "epochs": 2}  # whose updates are all problems, in whatever order
JOBS = {  # what one process trains, one after the other
    "dpo": (Job("sigmoid", DPO),),
    "ce": (Job("bco_pair", CE, 2.0),),
    "kto": (Job("apo_zero_unpaired", NoKL, problems=4, lengths=(30, 400)),),
    "sweep": (
        Job("sigmoid", DPO, **_TWICE), Job("apo_zero_unpaired", NoKL, **_TWICE), Job("nca_pair", NCA, **_TWICE),
        Job("bco_pair", CE, 2.0, **_TWICE),
    ),
}  # fmt: skip


class Seen(NamedTuple):
    """What one side did; one entry per update."""

    losses: list[float]  # ours
    ids: list[str]  # digest of the distinct sequences
    ended: list[tuple[float, float]]  # wall and CPU time at its end
    sequences: list[list[int]]  # tokens of prompt and response of every sequence, of ours


def prepare(job: str, folder: Path, shape: str, updates: int) -> None:
    """Leave two models, a tokenizer and the rollouts of ``updates`` updates in ``folder``."""
    words = SHAPES[shape]["vocab_size"]
    for seed, name in enumerate(("policy", "reference")):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=8192, eos_token_id=0)
        )
        if name == "policy":
            np.save(folder / "start.npy", flat(model))
        model.save_pretrained(folder / name)
        word_tokenizer(words).save_pretrained(folder / name)
    first = JOBS[job][0]
    write_groups(folder / "rollouts.jsonl", groups(first, words, updates // first.epochs))


def word_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """One id for each word; any text of words is its ids, whoever tokenises it."""
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


# --- ours ------------------------------------------------------------------------------------------


class Watch(Callback):
    """Notes what every update saw and when it ended."""

    def __init__(self) -> None:
        self.seen = Seen([], [], [], [])
        self.began = (0.0, 0.0)

    def on_train_start(self, *_: Any) -> None:
        self.began = clocks()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        note(self.seen, float(trainer.callback_metrics["train/loss"]), batch)


def note(seen: Seen, loss: float, batch: Batch) -> None:
    rows = [row[:n].tolist() for row, n in zip(batch.ids, batch.length.tolist(), strict=True)]
    seen.losses.append(loss)
    seen.ids.append(digest(rows))
    seen.ended.append(clocks())
    seen.sequences.append(
        [x for pair in zip(batch.prompt_length.tolist(), batch.length.tolist(), strict=True) for x in pair]
    )


def module_and_data(job: Job, folder: Path, dtype: str) -> tuple[LitPRM, RolloutDataModule]:
    module = LitPRM(
        ImplicitReward(str(folder / "policy"), beta=BETA, dtype=dtype),
        job.loss(),
        reference=Stored(str(folder / "reference"), str(folder / "store.sqlite"), dtype),
        optimizer=partial(torch.optim.SGD, lr=RATE * job.scale),
        schedule=lambda optimizer, _: LambdaLR(optimizer, lambda _: 1.0),  # type: ignore[arg-type]
    )
    data = RolloutDataModule(
        str(folder / "policy"), "rollouts.jsonl", root=str(folder), batch_size=8 * job.problems, max_length=2048
    )
    return module, data


def by_trainer(job: Job, folder: Path, dtype: str) -> tuple[Any, Seen, tuple[float, float]]:
    """The trainer, module, data module and callbacks of `make exp`."""
    module, data = module_and_data(job, folder, dtype)
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu", max_epochs=job.epochs, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, num_sanity_val_steps=0, limit_val_batches=0, use_distributed_sampler=False,
        callbacks=[FillReference(), watch],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module.policy, watch.seen, watch.began


def by_bare_loop(job: Job, folder: Path, dtype: str) -> tuple[Any, Seen, tuple[float, float]]:
    """The same maths without trainer and callbacks, on a full store."""
    module, data = module_and_data(job, folder, dtype)
    module.configure_model()
    data.setup("fit")
    optimizer, seen = module.optimizer_factory(list(module.parameters())), Seen([], [], [], [])
    began = clocks()
    batches = (batch for _ in range(job.epochs) for batch in data.train_dataloader())
    for batch in batches:
        rewards = module._view(module(batch), batch).reward
        loss = module.loss(rewards, batch.labels, batch.group).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        note(seen, float(loss.detach()), batch)
    return module.policy, seen, began


def counted(seen: Seen, model: Any) -> float:
    """FLOPs of the matrix products of all updates: 6 for a weight and token, the head on responses only.

    Attention has 12 for half of the pairs of tokens, in each layer and dimension.
    """
    c = model.config
    layers = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    head = c.hidden_size * c.vocab_size
    total = 0.0
    for sizes in seen.sequences:
        for prompt, length in zip(sizes[::2], sizes[1::2], strict=True):
            attention = 12 * c.num_hidden_layers * c.hidden_size * length * length / 2
            total += 6 * (layers * length + head * (length - prompt)) + attention
    return total


def product_rate(dtype: torch.dtype) -> float:
    """FLOPs a CPU second at which this machine multiplies matrices of SmolLM2's shape."""
    left, right = torch.ones(2048, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
    torch.nn.functional.linear(left, right)
    start, times = time.process_time(), 20
    for _ in range(times):
        torch.nn.functional.linear(left, right)
    return times * 2 * 2048 * 576 * 1536 / (time.process_time() - start)


# --- theirs -----------------------------------------------------------------------------------------


def by_trl(
    job: Job, folder: Path, dtype: str, *, precompute: bool, turned: bool
) -> tuple[Any, Seen, tuple[float, float]]:
    """TRL's trainer on our order of problems; ``turned`` has each step's pairs backwards."""
    import datasets
    from transformers import AutoModelForCausalLM, PrinterCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    datasets.disable_progress_bars()
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=getattr(torch, dtype))
        for name in ("policy", "reference")
    )
    kto = job.trl.startswith("apo")
    rows = list(trl_rows(job, in_our_order(job, folder), kto=kto, turned=turned))
    settings: dict[str, Any] = dict(
        output_dir=str(folder / "trl"), beta=BETA, learning_rate=RATE, lr_scheduler_type="constant", optim="sgd",
        max_grad_norm=0.0, weight_decay=0.0, num_train_epochs=job.epochs, train_sampling_strategy="sequential",
        gradient_checkpointing=False, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, max_length=None, precompute_ref_log_probs=precompute,
    )  # fmt: skip
    sizes = {"per_device_train_batch_size": _OF_A_PROBLEM[job.trl], "gradient_accumulation_steps": job.problems}
    kind, args = (
        (KTOTrainer, KTOConfig(**settings, **sizes, loss_type=job.trl))
        if kto
        else (DPOTrainer, DPOConfig(**settings, **sizes, loss_type=[job.trl]))
    )
    trainer = recording(kind, job)(
        model=policy, ref_model=reference, args=args, processing_class=word_tokenizer(policy.config.vocab_size),
        train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.began = clocks()
    trainer.train()
    return policy, trainer.seen, trainer.began


# TRL's examples of one problem
_OF_A_PROBLEM = {"sigmoid": 16, "nca_pair": 16, "bco_pair": 4, "apo_zero_unpaired": 8}


def recording(kind: Any, job: Job) -> Any:
    """TRL's trainer, noting what every update saw; its loss divided by our scale."""

    class Recording(kind):  # type: ignore[misc]
        seen = Seen([], [], [], [])
        waiting: list[tuple[float, list[list[int]]]]

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **others: Any) -> Any:
            found = super().compute_loss(model, inputs, *args, **others)
            loss = found[0] if isinstance(found, tuple) else found
            masks = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
            rows = [row[mask.bool()].tolist() for row, mask in masks]
            self.waiting = [*getattr(self, "waiting", []), (float(loss.detach()), rows)]
            return found

        def training_step(self, *args: Any, **others: Any) -> Any:
            done = super().training_step(*args, **others)
            if len(self.waiting) == self.args.gradient_accumulation_steps:
                losses = [loss for loss, _ in self.waiting]
                self.seen.losses.append(sum(losses) / len(losses) / job.scale)
                self.seen.ids.append(digest([row for _, rows in self.waiting for row in rows]))
                self.seen.ended.append(clocks())
                self.waiting = []
            return done

    return Recording


def in_our_order(job: Job, folder: Path) -> list[list[Group]]:
    """The problems of every update, as our data module deals them."""
    _, data = module_and_data(job, folder, "float32")
    data.setup("fit")
    known = read_groups(str(folder / "rollouts.jsonl")).groups
    updates = Updates(data._train, data.batch_size, seed=data.seed)
    return [[known[p] for p in update] for update in updates._dealt()]


def trl_rows(job: Job, updates: Sequence[Sequence[Group]], *, kto: bool, turned: bool) -> Iterator[dict[str, Any]]:
    for update in updates:
        for group in update:
            prompt = f"{group.problem.prompt}\n"
            right, wrong = ([r.response for r in group.rollouts if r.correct is wanted] for wanted in (True, False))
            if kto:
                made = [{"prompt": prompt, "completion": r.response, "label": r.correct} for r in group.rollouts]
            elif _OF_A_PROBLEM[job.trl] == 16:
                made = [{"prompt": prompt, "chosen": a, "rejected": b} for a in right for b in wrong]
            else:
                made = [{"prompt": prompt, "chosen": a, "rejected": b} for a, b in zip(right, wrong, strict=True)]
            yield from made[::-1] if turned else made


# --- both -------------------------------------------------------------------------------------------


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def digest(rows: Sequence[Sequence[int]]) -> str:
    """Of the set of distinct sequences."""
    return hashlib.sha256(json.dumps(sorted({tuple(row) for row in rows})).encode()).hexdigest()


def flat(model: Any) -> Any:
    """All parameters; [weights] float32."""
    return torch.cat([p.detach().float().flatten() for p in model.parameters()]).numpy()


def main(name: str, side: str, folder: Path, dtype: str, threads: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    if side.startswith("trl"):
        import trl  # noqa: F401  imports do not count on either side
    sides: dict[str, Callable[..., tuple[Any, Seen, tuple[float, float]]]] = {
        "ours cold": by_trainer,
        "ours warm": by_trainer,
        "ours bare": by_bare_loop,
        "trl online": partial(by_trl, precompute=False, turned=False),
        "trl precompute": partial(by_trl, precompute=True, turned=False),
        "trl reordered": partial(by_trl, precompute=False, turned=True),
    }
    start = clocks()
    parts = [sides[side](job, folder, dtype) for job in JOBS[name]]
    end = clocks()
    seen = Seen(*(sum((getattr(part, field) for _, part, _ in parts), []) for field in Seen._fields))  # noqa: RUF017
    np.save(folder / f"{side}.npy", np.concatenate([flat(policy) for policy, _, _ in parts]))
    found = {
        "wall": end[0] - start[0],
        "cpu": end[1] - start[1],
        "first_update": seen.ended[0][0] - start[0],
        "updates_cpu": sum(part.ended[-1][1] - began[1] for _, part, began in parts),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "losses": seen.losses,
        "ids": seen.ids,
    }
    if seen.sequences:
        found |= {"flops": counted(seen, parts[0][0]), "rate": product_rate(getattr(torch, dtype))}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
