"""A store of log-probs that is read and never written, for scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Dtype
from lit_prm.models.reference.base import Frozen, Reference
from lit_prm.models.reference.rows import placed
from lit_prm.models.reference.store import Logps


class ReadOnlyStore(Reference):
    """Reads the log-probs that a store has, computes the others with the store's model, and writes nothing.

    ``read`` returns the entry of every response of a batch, None where there is none; ``path`` names the store in
    errors.
    """

    def __init__(self, read: Callable[[Batch], list[Logps | None]], model: Frozen, path: str) -> None:
        self._read = read
        self._model = model
        self._path = path

    def logps(self, batch: Batch) -> Tensor:
        rows = self._read(batch)
        missing = [i for i, row in enumerate(rows) if row is None]
        if not missing:
            return placed(batch, rows, self._path)
        if len(missing) == len(rows):
            return self._model.logps(batch)
        computed = self._model.logps(batch.keep(missing))
        out = placed(batch, rows, self._path, some=True)
        out[torch.tensor(missing, device=out.device)] = computed
        return out

    def identity(self) -> dict[str, Any]:
        return self._model.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self._model.compute_in(dtype)

    def network(self, device: torch.device) -> PreTrainedModel:
        return self._model.network(device)
