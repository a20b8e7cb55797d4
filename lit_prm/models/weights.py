"""Identity of weights: content hashes of folders and hub snapshots."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers.utils.hub import cached_file, extract_commit_hash

from lit_prm.models.zero_weights import LATEST, consolidated, standing


def weights_hash(name: str) -> str:
    """Content hash of a model's configuration and weights: of a folder's files, of the hub the commit.

    A checkpoint or any other single file has the hash of its bytes, a sharded checkpoint that of its parts.
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


_CONFIGS = ("config.json", "adapter_config.json")

_WEIGHTS = {".safetensors", ".bin"}


def commit_of(name: str) -> str:
    """The commit of a hub model, as its files in the cache tell."""
    for file in _CONFIGS:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if found and (commit := extract_commit_hash(found, None)):
            return str(commit)
    raise ValueError(
        f"the hub says no commit of {name}, so that what it said could not be told from what another revision says; "
        "download it and give the folder"
    )


def weights_of(checkpoint: str) -> dict[str, Any]:
    """The module's weights in a checkpoint of a run, a file or a sharded one's folder; a missing one is refused."""
    if Path(checkpoint).is_dir():
        return consolidated(checkpoint)
    if not Path(checkpoint).is_file():
        raise ValueError(
            f"there is no checkpoint {checkpoint} to start from; run the experiment whose second stage this is first "
            "(make exp does so when the experiment file names it under `after`)"
        )
    found: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    return found
