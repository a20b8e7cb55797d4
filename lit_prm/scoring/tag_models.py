"""The networks of tag-token PRMs: a backbone, and the log-odds of a step read from one hidden state.

Heads are read from safetensors files or, with torch's reader of plain tensors (``weights_only``), from ``.bin`` files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils import logging

from lit_prm.models.language_model import Dtype, reading
from lit_prm.models.weights import local_path
from lit_prm.storage.schemas import read_file

_NAMES = ("model.safetensors", "pytorch_model.bin")  # in the order in which transformers looks for them


class StepClassifier(nn.Module):
    """A backbone, and a head from one hidden state to the log-odds that a step is right."""

    def __init__(self, backbone: nn.Module, log_odds: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_odds = log_odds

    @torch.no_grad()
    def forward(self, ids: Tensor, read: Tensor) -> Tensor:
        """Log-odds at the positions ``read``; [B, T], [B, T] bool -> [R], row by row.

        Rows are padded on the right, without an attention mask: attention is causal, and only padding follows the
        positions that are read.
        """
        hidden = self.backbone(input_ids=ids, use_cache=False).last_hidden_state  # [B, T, H]
        return self.log_odds(hidden[read])


class LogitDifference(nn.Module):
    """One output of a head minus another: the log-odds whose sigmoid is the softmax over these two."""

    def __init__(self, head: nn.Module, right: int, wrong: int) -> None:
        super().__init__()
        self.head, self.right, self.wrong = head, right, wrong

    def forward(self, states: Tensor) -> Tensor:
        logits = self.head(states).float()  # [R, outputs]
        return cast(Tensor, logits[:, self.right] - logits[:, self.wrong])


def load_backbone(source: str, dtype: Dtype) -> nn.Module:
    """The network below the heads, loaded by transformers' own class. Raises ValueError for missing weights."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # hides the list of weights that are not loaded here: those of the heads
    try:
        with reading(source):
            model, report = cast(Any, AutoModel).from_pretrained(
                source, dtype=dtype, trust_remote_code=False, output_loading_info=True
            )
    finally:
        logging.set_verbosity(before)
    if report["missing_keys"]:
        raise ValueError(
            f"{source} lacks {len(report['missing_keys'])} weights of a {type(model).__name__}, e.g. "
            f"{sorted(report['missing_keys'])[0]}. Give the folder as it was released."
        )
    return cast(nn.Module, model.eval())


def _tensors(source: str, names: Sequence[str]) -> dict[str, Tensor]:
    """The named tensors, from whichever of the model's files holds each. Raises ValueError for a missing one."""
    loaded = dict[str, Tensor]()
    for file in _files(source, names):
        loaded |= _read(file, names)
    if missing := [name for name in names if name not in loaded]:
        raise ValueError(
            f"{source} holds no {', '.join(missing)}, so its layout is not that of this style. Give another --style."
        )
    return loaded


@dataclass
class _Index:
    """Where each weight of a model lies: the file of its name."""

    weight_map: dict[str, str]


def _read(file: str, names: Sequence[str]) -> dict[str, Tensor]:
    """Those of the named tensors that the file holds."""
    if file.endswith(".bin"):
        with reading(file):
            stored = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        return {name: stored[name] for name in names if name in stored}
    with reading(file), safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in names if name in opened.keys()}  # noqa: SIM118


def _files(source: str, names: Sequence[str]) -> list[str]:
    """The model's files that hold the names, as far as an index tells."""
    for whole in _NAMES:
        if file := local_path(source, whole):
            return [file]
        if index := local_path(source, f"{whole}.index.json"):
            places = read_file(Path(index), _Index, "download the model again").weight_map
            shards = sorted({places[name] for name in names if name in places})
            return [file for file in (local_path(source, shard) for shard in shards) if file is not None]
    raise ValueError(f"{source} has none of {', '.join(_NAMES)}, whole or with an index. Give a model's folder.")


def linear(source: str, name: str, backbone: nn.Module) -> nn.Linear:
    """The linear layer of this name in the model's files, frozen and in the precision of the backbone."""
    dtype = next(backbone.parameters()).dtype
    stored = _tensors(source, (f"{name}.weight", f"{name}.bias"))
    weights = {key.rpartition(".")[2]: tensor.to(dtype) for key, tensor in stored.items()}
    outputs, inputs = weights["weight"].shape
    layer = nn.Linear(inputs, outputs, dtype=dtype)
    layer.load_state_dict(weights)
    return layer.requires_grad_(False)
