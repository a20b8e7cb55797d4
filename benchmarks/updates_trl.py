"""TRL's side of `benchmarks.updates`: its trainers on the problems, tokens and order of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import clocks
from benchmarks.updates_jobs import BETA, RATE, Job, Seen, module_and_data, word_tokenizer
from lit_prm.data.batching import Updates
from lit_prm.data.formats import read_groups
from lit_prm.data.records import Group


def by_trl(
    job: Job,
    folder: Path,
    dtype: str,
    device: str,
    seen: Seen,
    *,
    precompute: bool = False,
    turned: bool = False,
    pieces: int = 1,
) -> tuple[Any, tuple[float, float]]:
    """Train with TRL's trainer on our order of problems.

    ``turned`` reverses the examples of each step; ``pieces`` cuts its micro-batches further.
    """
    import datasets
    from transformers import AutoModelForCausalLM, PrinterCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    datasets.disable_progress_bars()
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=getattr(torch, dtype))
        for name in ("policy", "reference")
    )
    assert job.trl
    kto = job.trl.startswith("apo")
    rows = list(trl_rows(job, in_our_order(job, folder), kto=kto, turned=turned))
    settings: dict[str, Any] = dict(
        output_dir=str(folder / "trl"), beta=BETA, learning_rate=RATE, lr_scheduler_type="constant", optim="sgd",
        max_grad_norm=0.0, weight_decay=0.0, num_train_epochs=job.epochs, train_sampling_strategy="sequential",
        gradient_checkpointing=False, bf16=False, use_cpu=device == "cpu", report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, max_length=None, precompute_ref_log_probs=precompute,
    )  # fmt: skip
    sizes = {
        "per_device_train_batch_size": _OF_A_PROBLEM[job.trl] // pieces,
        "gradient_accumulation_steps": job.problems * pieces,
    }
    kind, args = (
        (KTOTrainer, KTOConfig(**settings, **sizes, loss_type=job.trl))
        if kto
        else (DPOTrainer, DPOConfig(**settings, **sizes, loss_type=[job.trl]))
    )
    trainer = recording(kind, job, seen)(
        model=policy, ref_model=reference, args=args, processing_class=word_tokenizer(policy.config.vocab_size),
        train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.began = clocks(device)
    trainer.train()
    return policy.config, trainer.began


# TRL's examples of one problem
_OF_A_PROBLEM = {"sigmoid": 16, "nca_pair": 16, "bco_pair": 4, "apo_zero_unpaired": 8}


def recording(kind: Any, job: Job, seen: Seen) -> Any:
    """TRL's trainer, extended to record the data of every update."""

    class Recording(kind):  # type: ignore[misc]
        waiting: list[tuple[float, list[list[int]]]]

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **others: Any) -> Any:
            found = super().compute_loss(model, inputs, *args, **others)
            loss = found[0] if isinstance(found, tuple) else found
            masks = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
            rows = [row[mask.bool()].tolist() for row, mask in masks]
            self.waiting = [*getattr(self, "waiting", []), (float(loss.detach()), rows)]
            return found

        def training_step(self, model: Any, *args: Any, **others: Any) -> Any:
            done = super().training_step(model, *args, **others)
            if len(self.waiting) == self.args.gradient_accumulation_steps:
                losses = [loss for loss, _ in self.waiting]
                rows = [row for _, rows in self.waiting for row in rows]
                seen.note(sum(losses) / len(losses), rows, model, job.scale)
                self.waiting = []
            return done

    return Recording


def in_our_order(job: Job, folder: Path) -> list[list[Group]]:
    """The problems of every update in the order of our data module."""
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
            elif _OF_A_PROBLEM[str(job.trl)] == 16:
                made = [{"prompt": prompt, "chosen": a, "rejected": b} for a in right for b in wrong]
            else:
                made = [{"prompt": prompt, "chosen": a, "rejected": b} for a, b in zip(right, wrong, strict=True)]
            yield from made[::-1] if turned else made
