"""Token batches: one encoded response, and B of them padded together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of a prompt and one response to it.

    ``step`` is the step of every response token; the end-of-turn token belongs to the last step. ``row`` is the index
    of the response in its data set, ``group`` that of its problem. ``step_labels`` has one entry in [0, 1] for each
    step (nan: unknown), or no entries. ``spans`` has the characters [start, end) of the response that each response
    token stands for, or no entries.
    """

    ids: NDArray[np.int32]
    prompt_length: int
    step: NDArray[np.int32]
    label: float
    group: int
    row: int
    truncated: bool = False
    step_labels: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    spans: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int32))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> bytes:
        """Hash of the prompt's and the response's tokens, independent of file and row."""
        return hashlib.sha256(self.prompt_length.to_bytes(4, "little") + self.ids.tobytes()).digest()


class Batch(NamedTuple):
    """B prompts with one response each, padded on the right to T tokens.

    There is no attention mask: with causal attention, padding on the right changes nothing. If ``owner`` says which
    rows have the same prompt, a model runs each prompt once, followed by its responses.
    """

    ids: Tensor  # [B, T] int64
    length: Tensor  # [B] prompt and response tokens
    prompt_length: Tensor  # [B]
    step: Tensor  # [B, T] step of each response token, -1 on prompt and padding
    labels: Tensor  # [B] 1 right, 0 wrong
    step_labels: Tensor  # [B, S] in [0, 1], nan where unknown
    group: Tensor  # [B] problem of each response
    row: Tensor  # [B] index in the data set
    global_labels: Tensor  # [G] labels of the whole global batch this micro-batch was cut from
    global_group: Tensor  # [G]
    mismatched: tuple[Batch, ...] = ()  # this rank's prompts, each with a response to another problem
    owner: Tensor | tuple[()] = ()  # [B] number of each row's prompt, by first appearance; empty: none is shared

    @property
    def shares_prompts(self) -> bool:
        """True if the model should run equal prompts once."""
        return len(self.owner) > 0

    @property
    def in_response(self) -> Tensor:
        """True at response tokens; [B, T]."""
        return self.step >= 0

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        """The batch on ``device``; Lightning calls this instead of looking into every field."""
        own = {name: x.to(device, **options) for name, x in self._asdict().items() if isinstance(x, Tensor)}
        return self._replace(**own, mismatched=tuple(batch.to(device, **options) for batch in self.mismatched))

    def keep(self, rows: Sequence[int]) -> Batch:
        """The batch of the responses at ``rows``, in that order, cut from the same global batch."""
        own = {name: getattr(self, name)[rows] for name in OF_A_RESPONSE}
        owner = torch.unique(torch.as_tensor(self.owner)[rows], return_inverse=True)[1] if self.shares_prompts else ()
        return self._replace(**own, owner=owner)

    def keys(self) -> list[bytes]:
        """Hash of every row's prompt and response, equal to ``Encoded.key``."""
        ids, lengths, prompts = self.ids.cpu().numpy().astype(np.int32), self.length, self.prompt_length
        return [
            hashlib.sha256(int(p).to_bytes(4, "little") + row[: int(n)].tobytes()).digest()
            for row, n, p in zip(ids, lengths, prompts, strict=True)
        ]


OF_A_RESPONSE = ("ids", "length", "prompt_length", "step", "labels", "step_labels", "group", "row")


def collate(
    items: Sequence[Encoded],
    global_batch: Sequence[Encoded] | None = None,
    *,
    pad_id: int = 0,
    mismatched: tuple[Batch, ...] = (),
    share_prompts: bool = False,
) -> Batch:
    """Pad ``items`` to one batch. ``global_batch`` holds all responses of the update; the default is the items.

    With ``share_prompts`` the batch says in ``owner`` which rows have the same prompt.
    """
    width = max(len(item) for item in items)
    steps = max((int(item.step.max(initial=0)) for item in items), default=0) + 1
    ids = np.full((len(items), width), pad_id, dtype=np.int64)
    step = np.full((len(items), width), -1, dtype=np.int64)
    step_labels = np.full((len(items), steps), np.nan, dtype=np.float32)
    for i, item in enumerate(items):
        ids[i, : len(item)] = item.ids
        step[i, item.prompt_length : len(item)] = item.step
        known = item.step_labels[:steps]  # a cut-off response has lost its last steps
        step_labels[i, : len(known)] = known
    whole = items if global_batch is None else global_batch
    return Batch(
        ids=torch.from_numpy(ids),
        length=torch.tensor([len(item) for item in items]),
        prompt_length=torch.tensor([item.prompt_length for item in items]),
        step=torch.from_numpy(step),
        labels=torch.tensor([item.label for item in items]),
        step_labels=torch.from_numpy(step_labels),
        group=torch.tensor([item.group for item in items]),
        row=torch.tensor([item.row for item in items]),
        global_labels=torch.tensor([item.label for item in whole]),
        global_group=torch.tensor([item.group for item in whole]),
        mismatched=mismatched,
        owner=torch.tensor(_owners(items)) if share_prompts else (),
    )


def _owners(items: Sequence[Encoded]) -> list[int]:
    number: dict[bytes, int] = {}
    return [number.setdefault(item.ids[: item.prompt_length].tobytes(), len(number)) for item in items]
