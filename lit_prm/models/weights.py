"""Hashes that identify the weights and the tokenizer of a model, and the weights in a run's checkpoint."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.utils.hub import cached_file, extract_commit_hash

from lit_prm.models.language_model import Dtype, refuse_missing_folder
from lit_prm.models.zero_weights import LATEST, consolidated, standing
from lit_prm.storage.checkpoint_files import REMEDY, read_checkpoint
from lit_prm.storage.schemas import refuse_damaged

ADAPTER_FILE = "adapter_config.json"
_CONFIGS = ("config.json", ADAPTER_FILE)
_PICKLED = (  # files that are loaded where there is no safetensors file whose name begins so
    ("pytorch_model*.bin", "model"),
    ("adapter_model*.bin", "adapter_model"),
)
_TOKENIZER = (
    "tokenizer",
    "special_tokens",
    "added_tokens",
    "vocab",
    "merges",
    "chat_template",
    "spiece",
    "sentencepiece",
)


def weights_hash(name: str) -> str:
    """Identity of a model's weights: a hash of a folder's configuration and weight files, or a hub model's commit.

    A single file, e.g. a checkpoint, is identified by the hash of its bytes; a sharded checkpoint by its parts.
    """
    path = Path(name)
    if not path.exists():
        return commit_of(name)
    files = [path] if path.is_file() else _weight_files(path)
    return hashlib.sha256(b"".join(map(_digest, files))).hexdigest()


def combined_hash(names: Iterable[str]) -> str:
    """One hash for the weights in several places, e.g. of an adapter and its base; a place named twice counts once."""
    hashes = [weights_hash(name) for name in dict.fromkeys(names) if name]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def tokenizer_hash(name: str) -> str:
    """Identity of a tokenizer: a hash of its files in a folder, with their names, or the commit of a hub model."""
    folder = Path(name)
    if not folder.is_dir():
        return commit_of(name)
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name.startswith(_TOKENIZER))
    return hashlib.sha256(b"".join(file.name.encode() + _digest(file) for file in files)).hexdigest()


def weights_id(name: str, dtype: Dtype) -> str:
    """Identity of a model's weights in one precision."""
    return hashlib.sha256(f"{weights_hash(name)}|{dtype}".encode()).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    """The files that are loaded: those of a model, or else the parts of a sharded checkpoint.

    Others beside them, such as ``training_args.bin`` or the optimizer of a trainer, are no part of the model.
    Released models may hold the file ``latest`` of the checkpoint that they were made from, without its parts.
    """
    safe = sorted(folder.glob("*.safetensors"))
    pickled = [
        p for kind in _PICKLED if not any(s.name.startswith(kind[1]) for s in safe) for p in folder.glob(kind[0])
    ]
    files = sorted([*(p for name in _CONFIGS if (p := folder / name).is_file()), *safe, *pickled])
    if not any(p.name in _CONFIGS for p in files) and (folder / LATEST).is_file():
        files = sorted(standing(folder).glob("*.pt"))
    if all(p.name in _CONFIGS for p in files):
        raise ValueError(f"{folder} holds no weights: no file *.safetensors or *.bin. Give a model's folder.")
    return files


def _digest(file: Path) -> bytes:
    """SHA-256 of a file's bytes, computed once in a process while the file stays as it is.

    Writing a file always changes its ctime, which no program can set back, unlike its size and its mtime. A file that
    was written a moment ago is not kept: clocks of files are coarse.
    """
    state = file.stat()
    if time.time() - state.st_ctime < 2:
        return _digest_of.__wrapped__(file)
    return _digest_of(file, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=1024)
def _digest_of(file: Path, *unchanged: int) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def local_path(name: str, file: str) -> str | None:
    """The local path of a file of a folder or hub model; None if the model has no such file."""
    path: str | None = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return path


def commit_of(name: str) -> str:
    """The commit of a hub model, read from its files in the cache."""
    refuse_missing_folder(name)
    for file in _CONFIGS:
        path = local_path(name, file)
        if path and (commit := extract_commit_hash(path, None)):
            return str(commit)
    raise ValueError(
        f"The commit of {name} is unknown, so its scores could not be distinguished from those of another revision. "
        "Download the model and give the folder."
    )


def weights_of(checkpoint: str) -> dict[str, Any]:
    """The LightningModule's weights in a run's checkpoint, a file or a folder of DeepSpeed."""
    if Path(checkpoint).is_dir():
        return consolidated(checkpoint)
    if not Path(checkpoint).is_file():
        raise ValueError(
            f"There is no checkpoint {checkpoint} to start from. First run the experiment of the first stage (make exp "
            "does this if the experiment file names it under `after`)."
        )
    weights: Any = read_checkpoint(checkpoint).get("state_dict")
    named = isinstance(weights, Mapping) and all(isinstance(name, str) for name in weights)
    if not (named and all(isinstance(weight, Tensor) for weight in weights.values())):
        refuse_damaged(checkpoint, "its state_dict holds no tensors by name", REMEDY)
    return dict(weights)
