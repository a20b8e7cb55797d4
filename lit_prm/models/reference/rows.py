"""Rows of a store of log-probs: taken from a batch, computed in parts of one width, put back into a batch or read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Dtype
from lit_prm.models.reference.base import Frozen, Reference
from lit_prm.models.reference.store import Logps


class StoreRow(NamedTuple):
    """A response of n tokens with its prompt."""

    address: bytes
    ids: Tensor  # [n] prompt and response
    prompt: int  # tokens of the prompt


# for a forward pass that other ranks wait for; its output is dropped
ANY = StoreRow(b"", torch.zeros(2, dtype=torch.long), 1)


def row_of(batch: Batch, i: int, address: bytes) -> StoreRow:
    return StoreRow(address, batch.ids[i, : int(batch.length[i])].cpu(), int(batch.prompt_length[i]))


def part_of(rows: Sequence[StoreRow], width: int, device: torch.device) -> Batch:
    """The rows as a batch of exactly ``width`` columns that holds only ids and the places of responses.

    Padding counts as tokens of the row. Otherwise a model with packed attention would round differently for other
    lengths of the neighbouring rows.
    """
    ids, step = torch.zeros((len(rows), width), dtype=torch.long), torch.full((len(rows), width), -1)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        step[i, row.prompt : len(row.ids)] = 0
    none = torch.zeros(len(rows), dtype=torch.long)
    return Batch(
        ids=ids.to(device),
        length=torch.full((len(rows),), width),
        prompt_length=torch.tensor([row.prompt for row in rows]),
        step=step.to(device),
        labels=none.float(),
        step_labels=none.float().unsqueeze(1),
        group=none,
        row=none,
        global_labels=none.float(),
        global_group=none,
    )


def placed(batch: Batch, rows: Sequence[Logps | None], path: str, *, some: bool = False) -> Tensor:
    """Log-probs at the places of the response tokens; [B, T]. Responses may lack log-probs only with ``some``."""
    out = torch.zeros(batch.ids.shape, dtype=torch.float32)
    for i, row in enumerate(rows):
        start, end = int(batch.prompt_length[i]), int(batch.length[i])
        if row is None and some:
            continue
        if row is None or len(row) != end - start:
            raise ValueError(
                f"{path} holds {'no log-probs' if row is None else f'{len(row)} log-probs'} of a response of "
                f"{end - start} tokens, so the store is damaged. Remove it; the next run fills it again."
            )
        out[i, start:end] = torch.from_numpy(row.copy())
    return out.to(batch.ids.device)


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
        if len(missing) == len(rows):
            return self._model.logps(batch)
        out = placed(batch, rows, self._path, some=True)
        if missing:
            out[torch.tensor(missing, device=out.device)] = self._model.logps(batch.keep(missing))
        return out

    @property
    def model_name(self) -> str:
        return self._model.name

    def identity(self) -> dict[str, Any]:
        return self._model.identity()

    def compute_in(self, dtype: Dtype) -> None:
        self._model.compute_in(dtype)

    def network(self, device: torch.device) -> PreTrainedModel:
        return self._model.network(device)
