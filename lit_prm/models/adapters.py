"""Policies with an adapter (LoRA and its kin), whose reference is the same network with the adapter off."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Attention, Dtype, load_model
from lit_prm.models.logps import token_logps
from lit_prm.models.probes import in_eval_mode
from lit_prm.models.reference import Reference
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.models.weights import weights_hash
from lit_prm.models.zero_weights import made_whole

ADAPTER_FILE = "adapter_config.json"


class AdapterOff(Reference):
    """The policy's own network with its adapter switched off: one set of weights serves as policy and reference.

    It speaks once an ``AdaptedReward`` has loaded them and called ``take``.
    """

    def __init__(self) -> None:
        self._adapted: Any = None  # a PeftModel
        self._base = ""

    def take(self, adapted: Any, base: str) -> None:
        """The network to switch, a ``peft.PeftModel``, and the name of what it is with its adapter off."""
        self._adapted, self._base = adapted, base

    def identity(self) -> dict[str, Any]:
        return {"reference": self._base, "reference_weights": weights_hash(self._base)}

    @torch.no_grad()
    def logps(self, batch: Batch) -> Tensor:
        if self._adapted is None:
            raise ValueError(
                "the reference AdapterOff has no network to switch its adapter off in; it belongs to the reward "
                "model lit_prm.models.adapters.AdaptedReward or LoRAReward, of another one give a "
                "lit_prm.models.reference.Frozen"
            )
        with in_eval_mode(self._adapted), self._adapted.disable_adapter():
            return token_logps(self._adapted.get_base_model(), batch)


class AdaptedReward(ImplicitReward):
    """r(y) = beta * log(pi(y) / pi_ref(y)): pi is a network with an adapter and pi_ref, unless given, that without it.

    ``policy`` is an adapter's folder or hub name; ``base`` is the network below, by default the one that the
    adapter's configuration names.
    """

    def __init__(self, policy: str, base: str | None = None, reference: Reference | None = None, **others: Any) -> None:
        super().__init__(policy, reference or AdapterOff(), **others)
        self.base = base
        self._adapted: list[Any] = []

    def _load(self) -> PreTrainedModel:
        adapted = self._load_adapted()
        for reference in self.references():
            if isinstance(reference, AdapterOff):
                reference.take(adapted, self.base_name)
        self._adapted = [adapted]  # in a list, or its weights would be this module's twice
        return cast(PreTrainedModel, adapted.get_base_model())

    def _load_adapted(self) -> Any:
        return load_adapted(self.policy_name, self.dtype, self.base_name, self.attention)

    @property
    def base_name(self) -> str:
        """The network with the adapter off."""
        return self.base or base_of(self.policy_name)

    @property
    def adapted(self) -> Any:
        """The ``peft.PeftModel`` around the policy, whose ``save_pretrained`` stores the adapter alone."""
        return self._adapted[0]


class LoRAReward(AdaptedReward):
    """r(y) = beta * log(pi(y) / pi_ref(y)): pi_ref is ``policy`` and pi the same weights with a new LoRA adapter on.

    The adapter (Hu et al. 2022) is all that is trained and all that a checkpoint holds: weights change by
    alpha / rank * B A, with B = 0 at the start, in ``targets`` (names of layers; by default all linear ones below the
    head).
    """

    OWN = ("rank", "alpha", "dropout", "targets")  # what an adapter's folder says itself

    def __init__(
        self,
        policy: str,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        targets: list[str] | None = None,
        reference: Reference | None = None,
        **others: Any,
    ) -> None:
        super().__init__(policy, policy, reference, **others)
        if rank < 1:
            raise ValueError(f"rank {rank} is not at least 1; it is the number of columns of B (16 is common)")
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets

    def _load_adapted(self) -> Any:
        network = load_model(self.policy_name, self.dtype, self.attention)
        with made_whole(network):
            return with_new_adapter(network, self.rank, self.alpha, self.dropout, self.targets)


def with_new_adapter(network: Any, rank: int, alpha: float, dropout: float, targets: list[str] | None) -> Any:
    """A ``peft.PeftModel`` around the network, which changes nothing yet; its adapter is float32, the rest frozen."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=cast(int, alpha), lora_dropout=dropout,
        target_modules=targets or "all-linear",
    )  # fmt: skip
    try:
        with _without_deprecations():
            return get_peft_model(network, config)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, m in network.named_modules() if isinstance(m, nn.Linear)}
        raise ValueError(
            f"targets {targets} cannot be adapted: {error}; the linear layers of {network.name_or_path} are "
            f"{', '.join(sorted(linear))}"
        ) from error


def is_adapter(name: str) -> bool:
    """Whether a folder, or what is known of a hub model, holds an adapter and not a model."""
    return _config_file(name) is not None


def base_of(name: str) -> str:
    """The model that an adapter was trained on, as its configuration names it."""
    file = _config_file(name)
    base = json.loads(Path(file).read_text()).get("base_model_name_or_path") if file else None
    if not base:
        where = file or f"{name}, which has no {ADAPTER_FILE}"
        raise ValueError(f"no base model is named in {where}; give the one that the adapter was trained on")
    beside = Path(name) / base  # an exported adapter may hold its base
    return str(beside) if beside.is_dir() else str(base)


def load_adapted(
    name: str, dtype: Dtype = "float32", base: str | None = None, attention: Attention | None = None
) -> Any:
    """A ``peft.PeftModel`` in eval mode, its adapter on; adapters that are no change of weights are refused."""
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(name)
    if config.is_prompt_learning:
        raise ValueError(
            f"{name} is a {config.peft_type.value} adapter, which adds tokens to the prompt and changes no "
            "weights; only LoRA and its kin can be switched off for the reference"
        )
    network = load_model(base or base_of(name), dtype, attention)
    try:
        with made_whole(network), _without_deprecations():
            adapted = PeftModel.from_pretrained(network, name, is_trainable=False, autocast_adapter_dtype=False)
    except RuntimeError as error:
        raise ValueError(
            f"the adapter {name} does not fit {base or base_of(name)}: {str(error)[:300]} ...; give the base it was "
            "trained on, with the same vocabulary"
        ) from error
    return cast(Any, adapted).eval()


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Without the warning of transformers 5.23 that it is about to drop a name which peft 0.21 asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


def _config_file(name: str) -> str | None:
    from transformers.utils.hub import cached_file

    if Path(name).is_dir():
        file = Path(name) / ADAPTER_FILE
        return str(file) if file.is_file() else None
    found: str | None = cached_file(name, ADAPTER_FILE, _raise_exceptions_for_missing_entries=False)
    return found
