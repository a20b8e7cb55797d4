"""What a source of reference log-probs is; two of them: a frozen model, and none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Attention, Dtype, load_model
from lit_prm.models.logps import token_logps
from lit_prm.models.weights import weights_hash


class Reference(ABC):
    """A source of per-token reference log-probs. Never trained, never part of the training engine."""

    def prepare(
        self, batches: Iterable[Batch], device: torch.device, untrained: PreTrainedModel | None = None
    ) -> str | None:
        """See every batch once before training starts; a line on what was done, None from sources that keep nothing.

        ``untrained`` is the policy while its weights are its base model's, None from the first update on.
        """
        return None

    def over_hosts(self) -> None:  # noqa: B027  most keep nothing
        """Before anything else: processes of several hosts share what this source keeps."""

    @property
    def only_at_start(self) -> bool:
        """Whether nobody can compute what it lacks once training has begun."""
        return False

    @abstractmethod
    def logps(self, batch: Batch) -> Tensor:
        """Log pi_ref(y_t | x, y_<t); [B, T] float32, 0 outside responses, on the batch's device."""

    def identity(self) -> dict[str, Any]:
        """What its log-probs hang on, as JSON."""
        return {"reference": type(self).__name__}

    def compute_in(self, dtype: Dtype) -> None:  # noqa: B027  not all compute
        """Use weights of this type, if there are any; before they are loaded."""

    def network(self, device: torch.device) -> PreTrainedModel | None:
        """The language model it asks, on ``device``; None where it has none of its own."""
        return None

    def read_only(self) -> Reference:
        """A source of the same log-probs that writes nothing."""
        return self


class Uniform(Reference):
    """No reference: log pi_ref is constant, so the reward is the policy's own log-prob (section 5.5.2)."""

    def logps(self, batch: Batch) -> Tensor:
        return torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)


class Frozen(Reference):
    """A frozen causal language model, loaded at first use and run without gradients at every call."""

    def __init__(self, model: str, dtype: Dtype = "float32", attention: Attention | None = "auto") -> None:
        self.name = model
        self.dtype = dtype
        self.attention = attention
        self._model: PreTrainedModel | None = None

    @torch.no_grad()
    def logps(self, batch: Batch) -> Tensor:
        return token_logps(self.network(batch.ids.device), batch)

    def identity(self) -> dict[str, Any]:
        return {"reference": self.name, "reference_weights": weights_hash(self.name)}

    def compute_in(self, dtype: Dtype) -> None:
        if dtype != self.dtype:
            self.dtype = dtype
            self.release()

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""
        return self._model is not None

    def release(self) -> None:
        """Give the weights' memory back; the next call loads them again."""
        self._model = None

    def network(self, device: torch.device) -> PreTrainedModel:
        if self._model is None:
            self._model = load_model(self.name, self.dtype, self.attention)
            self._model.requires_grad_(False)
        if self._model.device != device:
            self._model = self._model.to(device)  # type: ignore[arg-type]
        return self._model
