"""A cache of keys and values with room for new tokens: a new token does not copy all tokens before it."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer

ROOM = 32  # tokens


def roomy(layer: Any) -> Any:
    """The layer with room, if it keeps every token; layers of other kinds stay as they are."""
    return _RoomyLayer(layer) if type(layer) is DynamicLayer else layer


class _RoomyLayer(DynamicLayer):
    def __init__(self, full: Any) -> None:
        cast(Any, super().__init__)()
        self.lazy_initialization(full.keys, full.values)
        self._show([full.keys, full.values], full.keys.shape[2])

    def _show(self, buffers: list[Tensor], tokens: int) -> tuple[Tensor, Tensor]:
        self._buffers, self._tokens = buffers, tokens
        keys, values = (buffer[:, :, :tokens] for buffer in buffers)  # [R, heads, tokens, D] each
        self.keys, self.values = keys, values
        return keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        end = self._tokens + key_states.shape[2]
        if end > self._buffers[0].shape[2]:
            missing = end - self._buffers[0].shape[2]
            self._buffers = [pad(buffer, (0, 0, 0, missing + ROOM)) for buffer in self._buffers]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._tokens : end] = new
        return self._show(self._buffers, end)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._show([buffer[indices] for buffer in self._buffers], self._tokens)
