"""Weights on disk: a hash that identifies them, and those in a run's checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers.utils.hub import cached_file, extract_commit_hash

from lit_prm.models.language_model import Dtype
from lit_prm.models.zero_weights import LATEST, consolidated, standing


def weights_hash(name: str) -> str:
    """Identity of a model's weights: a hash of a folder's configuration and weight files, or a hub model's commit.

    A single file, e.g. a checkpoint, is identified by the hash of its bytes; a sharded checkpoint by its parts.
    """
    path = Path(name)
    if not path.exists():
        return commit_of(name)
    if path.is_file():
        files = [path]
    elif (path / LATEST).is_file():
        files = sorted(standing(path).glob("*.pt"))
    else:
        files = sorted(p for p in path.glob("*") if p.name in _CONFIGS or p.suffix in _WEIGHTS)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


ADAPTER_FILE = "adapter_config.json"
_CONFIGS = ("config.json", ADAPTER_FILE)
_WEIGHTS = {".safetensors", ".bin"}


def local_path(name: str, file: str) -> str | None:
    """The local path of a file of a folder or hub model; None if the model has no such file."""
    path: str | None = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return path


def commit_of(name: str) -> str:
    """The commit of a hub model, read from its files in the cache."""
    for file in _CONFIGS:
        path = local_path(name, file)
        if path and (commit := extract_commit_hash(path, None)):
            return str(commit)
    raise ValueError(
        f"The commit of {name} is unknown, so its scores could not be distinguished from those of another revision. "
        "Download the model and give the folder."
    )


def weights_id(name: str, dtype: Dtype) -> str:
    """Identity of a model's weights: sizes and times of a folder's files, or name and commit of a hub model.

    A hash of all weights would take too long at every start. Files that change in place change their modification time.
    """
    folder = Path(name)
    files = sorted(p for p in folder.glob("*") if p.suffix in {*_WEIGHTS, ".json"})  # none if this is no folder
    parts = [f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files] or [commit_of(name)]
    return hashlib.sha256("|".join([str(folder.resolve()) if files else name, dtype, *parts]).encode()).hexdigest()


def weights_of(checkpoint: str) -> dict[str, Any]:
    """The LightningModule's weights in a run's checkpoint, a file or a folder of DeepSpeed."""
    if Path(checkpoint).is_dir():
        return consolidated(checkpoint)
    if not Path(checkpoint).is_file():
        raise ValueError(
            f"There is no checkpoint {checkpoint} to start from. First run the experiment of the first stage (make exp "
            "does this if the experiment file names it under `after`)."
        )
    weights: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    return weights
