"""Keeps a run, its models and its checkpoints together: hashes that are recorded at its start and compared later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer

from lit_prm.models.identity import identity_of
from lit_prm.storage.identity import (
    KEY,
    Identity,
    identity_in,
    read_identity,
    refuse_mismatch,
    warn_unknown,
    write_identity,
)
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.module import LitPRM


class RunIdentity:
    """The hashes of the run in ``folder``: of its configuration, its base, its reference and its tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes: Identity = {}

    def begin(self, models: Identity, config: str) -> None:
        """A new run. Its hash is that of its configuration, wherever it lies: a copy in another folder is the same."""
        self.hashes = {"run": hashlib.sha256(config.replace(str(self.folder), "").encode()).hexdigest(), **models}

    def go_on(self, models: Identity) -> None:
        """The run that the folder holds. Raises ValueError if it was begun with other models than it has now."""
        recorded = read_identity(self.folder)
        remedy = (
            "Put back the models that the run began with, remove the folder to start again, or keep both: --run_dir "
            f"{self.folder}-other."
        )
        refuse_mismatch(recorded, models, f"the run {self.folder}", "the models of its configuration", remedy)
        self.hashes = {**models, **recorded}  # without a record, the run's own hash is that of its checkpoint

    def write(self) -> None:
        """Record the hashes in the run's folder."""
        write_identity(self.folder, self.hashes)

    def check(self, checkpoint: Mapping[str, Any], path: str) -> None:
        """Raise ValueError if the content of the checkpoint at ``path`` was saved by another run or with other models.

        A checkpoint outside the run's folder may be that of another run, to begin with or to judge, whose base and
        tokenizer must be those of this one.
        """
        saved, own = identity_in(checkpoint, path), Path(path).resolve().is_relative_to(self.folder.resolve())
        if not saved:
            warn_unknown(path)
        shared = {name: self.hashes[name] for name in ("base", "tokenizer") if name in self.hashes}
        remedy = "Give the checkpoint of a run with this configuration."
        refuse_mismatch(saved, self.hashes if own else shared, f"the checkpoint {path}", "this run", remedy)
        if own and saved and "run" not in self.hashes:
            self.hashes = {**saved, **self.hashes}
            self.write()

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Add the hashes to a checkpoint."""
        checkpoint[KEY] = dict(self.hashes)


def models_of(trainer: Trainer, module: LightningModule) -> dict[str, str]:
    """Hashes of the models that a run is made with; empty for a module or data module of another project."""
    data = getattr(trainer, "datamodule", None)
    if not (isinstance(module, LitPRM) and isinstance(data, RolloutDataModule)):
        return {}
    return identity_of(module.reward_model, data.tokenizer_name, module.reference)
