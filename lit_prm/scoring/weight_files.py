"""Single tensors of a model's safetensors files, from a folder or the hub; pickled files are never opened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def tensors(source: str, names: Sequence[str]) -> dict[str, Tensor]:
    """The named tensors, whichever of the model's files holds each; a missing one is refused by its name."""
    found = dict[str, Tensor]()
    for file in _files(source, names):
        with safe_open(file, framework="pt") as opened:
            found |= {name: opened.get_tensor(name) for name in names if name in opened.keys()}  # noqa: SIM118
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{source} holds no {', '.join(missing)}: it has another layout; give the --style of its own")
    return found


def _files(source: str, names: Sequence[str]) -> list[str]:
    index = _found(source, _INDEX)
    if index is None:
        whole = _found(source, _WHOLE)
        if whole is None:
            raise ValueError(f"{source} has neither {_WHOLE} nor {_INDEX}; convert its weights to safetensors")
        return [whole]
    places = json.loads(Path(index).read_text())["weight_map"]
    shards = sorted({places[name] for name in names if name in places})
    return [file for file in (_found(source, shard) for shard in shards) if file is not None]


def _found(source: str, file: str) -> str | None:
    """The local path of a file of a folder or of a hub model, None where it has no such file."""
    from transformers.utils.hub import cached_file

    path: str | None = cached_file(source, file, _raise_exceptions_for_missing_entries=False)
    return path
