"""One measurement of `benchmarks.updates`: one side trains one job in this process and prints what it took as JSON."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback

from benchmarks.machine import clocks, peak_bytes, product_rate, update_flops
from benchmarks.updates_jobs import JOBS, Job, Seen, digest, flat, module_and_data
from benchmarks.updates_trl import by_trl
from callbacks.references import FillReference
from lit_prm.batch import Batch


class Watch(Callback):
    """Notes what every update saw and when it ended."""

    def __init__(self) -> None:
        self.seen = Seen([], [], [], [])
        self.began = (0.0, 0.0)

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self.began = clocks(module.device.type)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        note(self.seen, float(trainer.callback_metrics["train/loss"]), batch)


def note(seen: Seen, loss: float, batch: Batch) -> None:
    rows = [row[:n].tolist() for row, n in zip(batch.ids, batch.length.tolist(), strict=True)]
    seen.losses.append(loss)
    seen.ids.append(digest(rows))
    seen.ended.append(clocks(batch.ids.device.type))
    seen.sequences.extend(zip(batch.prompt_length.tolist(), batch.length.tolist(), strict=True))


def by_trainer(job: Job, folder: Path, dtype: str, device: str) -> tuple[Any, Seen, tuple[float, float]]:
    """The trainer, module, data module and callbacks of `make exp`."""
    module, data = module_and_data(job, folder, dtype)
    watch = Watch()
    trainer = Trainer(
        accelerator=device, devices=1, max_epochs=job.epochs, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, num_sanity_val_steps=0, limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[FillReference(), watch],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module.policy, watch.seen, watch.began


def by_bare_loop(job: Job, folder: Path, dtype: str, device: str) -> tuple[Any, Seen, tuple[float, float]]:
    """The same maths without trainer and callbacks, on a full store."""
    module, data = module_and_data(job, folder, dtype)
    module.configure_model()
    module.to(device)
    data.setup("fit")
    optimizer, seen = module.optimizer_factory(list(module.parameters())), Seen([], [], [], [])
    began = clocks(device)
    batches = (batch for _ in range(job.epochs) for batch in data.train_dataloader())
    for batch in (move_data_to_device(batch, device) for batch in batches):
        rewards = module._view(module(batch), batch).reward
        loss = module.loss(rewards, batch.labels, batch.group).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        note(seen, float(loss.detach()), batch)
    return module.policy, seen, began


def main(name: str, side: str, folder: Path, dtype: str, threads: int, device: str) -> None:
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
    start = clocks(device)
    parts = [sides[side](job, folder, dtype, device) for job in JOBS[name]]
    end, peak = clocks(device), peak_bytes(device)
    seen = Seen(*(sum((getattr(part, field) for _, part, _ in parts), []) for field in Seen._fields))  # noqa: RUF017
    np.save(folder / f"{side}.npy", np.concatenate([flat(policy) for policy, _, _ in parts]))
    found = {
        "wall": end[0] - start[0],
        "cpu": end[1] - start[1],
        "first_update": seen.ended[0][0] - start[0],
        "first_cpu": seen.ended[0][1] - start[1],
        "updates_cpu": sum(part.ended[-1][1] - began[1] for _, part, began in parts),
        "peak_gb": peak / 1e9,
        "losses": seen.losses,
        "ids": seen.ids,
    }
    if seen.sequences:
        config = parts[0][0].config
        found |= {
            "tokens": sum(length for _, length in seen.sequences),
            "flops": update_flops(config, seen.sequences),
            "rate": product_rate(getattr(torch, dtype), config.hidden_size, config.intermediate_size, device),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6])
