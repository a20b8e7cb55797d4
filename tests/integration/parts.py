"""A callback for runs of several processes: what each holds at the end, and a death at an update that is asked for."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Parts(Callback):
    """Writes ``<folder>/parts-<rank>.json``; every process kills itself behind update ``$DIES_AT``."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == int(os.environ.get("DIES_AT", 0)) > 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trained = [p for p in pl_module.parameters() if p.requires_grad]
        optimizer = trainer.optimizers[0]
        moments = getattr(optimizer, "optimizer", optimizer).state.values()  # DeepSpeed's is around the one of torch
        networks = [reference.network(pl_module.device) for reference in pl_module.references()]  # type: ignore[operator]
        held = {
            "all": sum(getattr(p, "ds_numel", p.numel()) for p in trained),
            "parameters": sum(getattr(p, "ds_tensor", p).numel() for p in trained),
            "whole": sum(p.numel() for p in trained if not hasattr(p, "ds_id")),
            "moments": sum(state["exp_avg"].numel() for state in moments),
            "pieces": len(trained),
            "of_references": sum(hasattr(p, "ds_id") for n in networks if n is not None for p in n.parameters()),
        }
        (self.folder / f"parts-{trainer.global_rank}.json").write_text(json.dumps(held))
