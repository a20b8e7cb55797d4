"""Reads single tensors from a model's safetensors files, in a folder or on the hub; pickled files are never opened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def tensors(source: str, names: Sequence[str]) -> dict[str, Tensor]:
    """The named tensors, from whichever of the model's files holds each. Raises ValueError for a missing one."""
    loaded = dict[str, Tensor]()
    for file in _files(source, names):
        with safe_open(file, framework="pt") as opened:
            loaded |= {name: opened.get_tensor(name) for name in names if name in opened.keys()}  # noqa: SIM118
    if missing := [name for name in names if name not in loaded]:
        raise ValueError(
            f"{source} holds no {', '.join(missing)}, so its layout is not that of this style. Give another --style."
        )
    return loaded


def _files(source: str, names: Sequence[str]) -> list[str]:
    index = _local_path(source, _INDEX)
    if index is None:
        whole = _local_path(source, _WHOLE)
        if whole is None:
            raise ValueError(f"{source} has neither {_WHOLE} nor {_INDEX}. Convert its weights to safetensors.")
        return [whole]
    places = json.loads(Path(index).read_text())["weight_map"]
    shards = sorted({places[name] for name in names if name in places})
    return [file for file in (_local_path(source, shard) for shard in shards) if file is not None]


def _local_path(source: str, file: str) -> str | None:
    """The local path of a file of a folder or hub model; None if the model has no such file."""
    from transformers.utils.hub import cached_file

    path: str | None = cached_file(source, file, _raise_exceptions_for_missing_entries=False)
    return path
