"""One measurement of `benchmarks.updates`: one side trains one job in this process and prints its times as JSON."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback

from benchmarks.machine import clocks, peak_bytes, product_rate, update_flops, work_of
from benchmarks.updates_jobs import JOBS, Job, Seen, module_and_data
from benchmarks.updates_trl import by_trl
from callbacks.references import FillReference
from lit_prm.data.batch import Batch


class Watch(Callback):
    """Records data and end of every update."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.began = (0.0, 0.0)
        self.cuts: list[Batch] = []

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self.began = clocks(module.device.type)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.cuts.append(batch)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            note(self.seen, float(trainer.callback_metrics["train/loss"]), self.cuts, module.policy)
            self.cuts = []


def note(seen: Seen, loss: float, cuts: Sequence[Batch], policy: Any) -> None:
    """Record the end of an update of these micro-batches."""
    rows = [row[:n].tolist() for batch in cuts for row, n in zip(batch.ids, batch.length.tolist(), strict=True)]
    seen.note(loss, rows, policy)
    seen.work.extend(map(work_of, cuts))
    seen.tokens.extend(int(batch.length.sum()) for batch in cuts)


def by_trainer(job: Job, folder: Path, dtype: str, device: str, seen: Seen) -> tuple[Any, tuple[float, float]]:
    """Train with trainer, module, data module and callbacks of `make exp`."""
    module, data = module_and_data(job, folder, dtype)
    watch = Watch(seen)
    trainer = Trainer(
        accelerator=device, devices=1, max_epochs=job.epochs, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, num_sanity_val_steps=0, limit_val_batches=0,
        use_distributed_sampler=False, accumulate_grad_batches=job.cuts,
        callbacks=[FillReference(), watch],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    policy: Any = module.policy
    return policy.config, watch.began


def by_bare_loop(job: Job, folder: Path, dtype: str, device: str, seen: Seen) -> tuple[Any, tuple[float, float]]:
    """Train by the same maths without trainer and callbacks, on a full store."""
    module, data = module_and_data(job, folder, dtype)
    module.configure_model()
    module.to(device)
    data.setup("fit")
    cut = {"accumulate_grad_batches": job.cuts, "global_rank": 0, "world_size": 1}
    data.trainer = SimpleNamespace(**cut)  # type: ignore[assignment]
    optimizer = module.optimizer_factory(list(module.parameters()))
    began = clocks(device)
    cuts = (move_data_to_device(batch, device) for _ in range(job.epochs) for batch in data.train_dataloader())
    while update := list(islice(cuts, job.cuts)):
        optimizer.zero_grad()
        total = 0.0
        for batch in update:
            rewards = module._view(module(batch), batch).reward
            terms = module.loss(rewards, batch.labels, batch.group)
            loss = terms.sum() / module.loss.num_terms(batch.global_labels, batch.global_group)
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        note(seen, total, update, module.policy)
    policy: Any = module.policy
    return policy.config, began


def main(name: str, side: str, folder: Path, dtype: str, threads: int, device: str, gradients: Path | None) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    if side.startswith("trl"):
        import trl  # noqa: F401  imports do not count on either side
    with gradients.open("wb") if gradients else nullcontext() as file:
        seen, updates_cpu, start = Seen.into(file), 0.0, clocks(device)
        for job in JOBS[name]:
            config, began = SIDES[side](job, folder, dtype, device, seen)
            updates_cpu += seen.ended[-1][1] - began[1]
        end, peak = clocks(device), peak_bytes(device)
    found = {
        "wall": end[0] - start[0],
        "cpu": end[1] - start[1],
        "first_update": seen.ended[0][0] - start[0],
        "first_cpu": seen.ended[0][1] - start[1],
        "updates_cpu": updates_cpu,
        "peak_gb": peak / 1e9,
        "losses": seen.losses,
        "ids": seen.ids,
    }
    if seen.work:
        found |= {
            "tokens": sum(seen.tokens),
            "flops": update_flops(config, seen.work),
            "rate": product_rate(getattr(torch, dtype), config.hidden_size, config.intermediate_size, device),
        }
    print(json.dumps(found))


SIDES: dict[str, Callable[..., tuple[Any, tuple[float, float]]]] = {
    "ours cold": by_trainer,
    "ours warm": by_trainer,
    "ours bare": by_bare_loop,
    "trl online": by_trl,
    "trl precompute": partial(by_trl, precompute=True),
    "trl reordered": partial(by_trl, turned=True),
    "trl in pieces": partial(by_trl, pieces=4),
}


if __name__ == "__main__":
    *words, threads, device, kept = sys.argv[1:]
    job, side, at, dtype = words
    main(job, side, Path(at), dtype, int(threads), device, Path(kept) if kept else None)
