"""The interface of a reference (source of per-token log-probs), a frozen model, and the absence of a reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Attention, Dtype, load_model
from lit_prm.models.logps import token_logps
from lit_prm.models.weights import weights_hash


class Reference(ABC):
    """A source of per-token reference log-probs. It is never trained and never part of the training strategy.

    ``keeps_copies`` is True for a class that computes log-probs once and keeps them in a file. Commands ask the class,
    without an object of it.
    """

    keeps_copies: ClassVar[bool] = False

    @classmethod
    def as_exported(cls, init_args: Mapping[str, Any]) -> tuple[type[Reference], dict[str, Any]]:
        """The class and arguments of a source of the same log-probs that works without the run's own files."""
        return cls, dict(init_args)

    def prepare(
        self, batches: Iterable[Batch], device: torch.device, untrained: PreTrainedModel | None = None
    ) -> str | None:
        """Process every batch once before training starts. Returns a line to print, None if nothing is kept.

        ``untrained`` is the policy while it still has the weights of its base model; None after the first update.
        """
        return None

    def over_hosts(self) -> None:  # noqa: B027  most references keep nothing
        """Prepare for processes of several hosts that share what this reference keeps. Call before anything else."""

    @property
    def only_at_start(self) -> bool:
        """True if missing entries cannot be computed after training has started."""
        return False

    @abstractmethod
    def logps(self, batch: Batch) -> Tensor:
        """Log pi_ref(y_t | x, y_<t); [B, T] float32, 0 outside responses, on the batch's device."""

    def identity(self) -> dict[str, Any]:
        """What the log-probs depend on, as JSON."""
        return {"reference": type(self).__name__}

    def compute_in(self, dtype: Dtype) -> None:  # noqa: B027  not every reference computes
        """Use weights of this type. Call before they are loaded."""

    @property
    def model_name(self) -> str | None:
        """The folder or hub name of the language model behind this reference; None if there is none."""
        return None

    def network(self, device: torch.device) -> PreTrainedModel | None:
        """The language model behind this reference, on ``device``; None if there is none."""
        return None

    def read_only(self) -> Reference:
        """A reference with the same log-probs that writes no file."""
        return self


class Uniform(Reference):
    """No reference model: log pi_ref is constant, so the reward is the policy's own log-prob (section 5.5.2)."""

    def logps(self, batch: Batch) -> Tensor:
        return torch.zeros(batch.ids.shape, dtype=torch.float32, device=batch.ids.device)


class Frozen(Reference):
    """A frozen causal language model. It is loaded at first use and runs without gradients in every call."""

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

    @property
    def model_name(self) -> str:
        return self.name

    def compute_in(self, dtype: Dtype) -> None:
        if dtype != self.dtype:
            self.dtype = dtype
            self.release()

    @property
    def loaded(self) -> bool:
        """True while the weights are in memory."""
        return self._model is not None

    def release(self) -> None:
        """Free the memory of the weights. The next call loads them again."""
        self._model = None

    def network(self, device: torch.device) -> PreTrainedModel:
        if self._model is None:
            self._model = load_model(self.name, self.dtype, self.attention)
            self._model.requires_grad_(False)
        if self._model.device != device:
            self._model = self._model.to(device)  # type: ignore[arg-type]
        return self._model
