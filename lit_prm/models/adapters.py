"""Policies with a PEFT adapter (LoRA and similar). The reference is the same network with the adapter disabled."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_prm.data.batch import Batch
from lit_prm.models.language_model import Attention, Dtype, load_model, reading
from lit_prm.models.logps import token_logps
from lit_prm.models.probes import in_eval_mode
from lit_prm.models.reference import Reference
from lit_prm.models.reward_model import ImplicitReward, RewardModel
from lit_prm.models.weights import ADAPTER_FILE, local_path, weights_hash
from lit_prm.models.zero_weights import made_whole
from lit_prm.storage.schemas import read_file


class AdapterOff(Reference):
    """The policy's own network with its adapter disabled: one set of weights serves as policy and as reference.

    Usable once an ``AdaptedReward`` has loaded the network and called ``take``.
    """

    def __init__(self) -> None:
        self._adapted: Any = None  # a PeftModel
        self._base = ""

    def take(self, adapted: Any, base: str) -> None:
        """Use this ``peft.PeftModel``; ``base`` is the name of the model below its adapter."""
        self._adapted, self._base = adapted, base

    def identity(self) -> dict[str, Any]:
        return {"reference": self._base, "reference_weights": weights_hash(self._base)}

    @torch.no_grad()
    def logps(self, batch: Batch) -> Tensor:
        if self._adapted is None:
            raise ValueError(
                "The reference AdapterOff has no network whose adapter it could disable. It belongs to the reward "
                "models lit_prm.models.adapters.AdaptedReward and LoRAReward. Give any other reward model a "
                "lit_prm.models.reference.Frozen."
            )
        with in_eval_mode(self._adapted), _without_warnings(), self._adapted.disable_adapter():
            return token_logps(self._adapted.get_base_model(), batch)


class AdaptedReward(ImplicitReward):
    """r(y) = beta * log(pi(y) / pi_ref(y)), where pi is a network with an adapter that was trained before.

    pi_ref is the same network with the adapter disabled, unless ``reference`` is given. ``policy`` is the adapter's
    folder or hub name; ``base`` is the model below it, by default the one that the adapter's configuration names. The
    other ``options`` are those of ``ImplicitReward``.
    """

    has_own_reference = True

    def __init__(
        self, policy: str, base: str | None = None, reference: Reference | None = None, **options: Any
    ) -> None:
        super().__init__(policy, reference or AdapterOff(), **options)
        self.base = base
        self._adapted: list[Any] = []

    def _load(self) -> PreTrainedModel:
        adapted = self._load_adapted()
        for reference in self.references():
            if isinstance(reference, AdapterOff):
                reference.take(adapted, self.base_name)
        self._adapted = [adapted]  # in a list: as an attribute, this module would hold the weights twice
        return cast(PreTrainedModel, adapted.get_base_model())

    def _load_adapted(self) -> Any:
        switches = any(isinstance(reference, AdapterOff) for reference in self.references())
        return load_adapted(self.policy_name, self.dtype, self.base_name, self.attention, off_is_base=switches)

    @property
    def base_name(self) -> str:
        """Folder or hub name of the model below the adapter."""
        return self.base or base_of(self.policy_name)

    @property
    def adapted(self) -> Any:
        """The ``peft.PeftModel`` around the policy. Its ``save_pretrained`` stores the adapter alone."""
        return self._adapted[0]


class LoRAReward(AdaptedReward):
    """r(y) = beta * log(pi(y) / pi_ref(y)): pi_ref is ``policy``, and pi the same weights with a new LoRA adapter.

    Only the adapter (Hu et al. 2022) is trained, and a checkpoint holds nothing else. It changes the weights by
    alpha / rank * B A, with B = 0 at the start. ``targets`` are names of linear layers, by default all of them except
    the language-model head. The other ``options`` are those of ``ImplicitReward``.
    """

    _LORA_OPTIONS: ClassVar = ("rank", "alpha", "dropout", "targets")

    def __init__(
        self,
        policy: str,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        targets: list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(policy, policy, **options)
        if rank < 1:
            raise ValueError(f"rank {rank} is not at least 1. It is the number of columns of B; 16 is common.")
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets

    @classmethod
    def as_exported(cls, init_args: Mapping[str, Any]) -> tuple[type[RewardModel], dict[str, Any]]:
        """An ``AdaptedReward``: the exported adapter's own configuration holds the LoRA options."""
        kept = {name: value for name, value in init_args.items() if name not in cls._LORA_OPTIONS}
        return AdaptedReward.as_exported(kept)

    def _load_adapted(self) -> Any:
        network = load_model(self.policy_name, self.dtype, self.attention)
        with made_whole(network):
            return with_new_adapter(network, self.rank, self.alpha, self.dropout, self.targets)


def with_new_adapter(network: Any, rank: int, alpha: float, dropout: float, targets: list[str] | None) -> Any:
    """A ``peft.PeftModel`` around the network whose new adapter is float32 and changes nothing yet; the rest is frozen.

    Raises ValueError, with the names of the linear layers, if PEFT cannot adapt ``targets``.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=cast(int, alpha), lora_dropout=dropout,
        target_modules=targets or "all-linear",
    )  # fmt: skip
    try:
        with _without_warnings():
            return get_peft_model(network, config)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, m in network.named_modules() if isinstance(m, nn.Linear)}
        raise ValueError(
            f"targets {targets} cannot be adapted: {error} The linear layers of {network.name_or_path} are "
            f"{', '.join(sorted(linear))}."
        ) from error


def is_adapter(name: str) -> bool:
    """True if a folder, or a hub model as far as its files are known, holds an adapter instead of a whole model."""
    return local_path(name, ADAPTER_FILE) is not None


def base_of(name: str) -> str:
    """The model that an adapter was trained on, as the adapter's configuration names it."""
    file = local_path(name, ADAPTER_FILE)
    config = read_file(Path(file), dict[str, Any], "download it again") if file else {}
    base = config.get("base_model_name_or_path")
    if not (isinstance(base, str) and base):
        where = file or f"{name}, which has no {ADAPTER_FILE}"
        raise ValueError(f"No base model is named in {where}. Give the model that the adapter was trained on.")
    beside = Path(name) / base  # an exported adapter may hold its base
    return str(beside) if beside.is_dir() else base


def load_adapted(
    name: str,
    dtype: Dtype = "float32",
    base: str | None = None,
    attention: Attention | None = None,
    *,
    off_is_base: bool = False,
) -> Any:
    """A ``peft.PeftModel`` in eval mode with its adapter enabled.

    Raises ValueError for an adapter that adds prompt tokens, which cannot be disabled to give the reference, and for
    one that does not fit its base or belongs to another kind of model, such as a classifier. With ``off_is_base`` also
    for one that changes weights of its base (trained biases; initialisations such as PiSSA and OLoRA): disabling it
    does not give the base back.
    """
    from peft import PeftConfig, PeftModel

    with reading(name):
        config = PeftConfig.from_pretrained(name)
    if config.is_prompt_learning:
        raise ValueError(
            f"{name} is a {config.peft_type.value} adapter, which adds tokens to the prompt and changes no weights. "
            "Give LoRA or a similar adapter, which can be disabled to give the reference."
        )
    below = base or base_of(name)
    network = load_model(below, dtype, attention)
    before = _checksums(network) if off_is_base else {}
    try:
        with made_whole(network), _without_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")
            adapted = PeftModel.from_pretrained(network, name, is_trainable=False, autocast_adapter_dtype=False)
    except (RuntimeError, UserWarning) as error:
        raise ValueError(
            f"The adapter {name} does not fit {below}: {str(error)[:300]} ... Give the base that it was trained on, "
            "with the same vocabulary."
        ) from error
    _refuse_other_parts(adapted, name)
    after = _checksums(cast(Any, adapted).get_base_model()) if off_is_base else {}
    if changed := [weight for weight, checksum in before.items() if after.get(weight) != checksum]:
        raise ValueError(
            f"The adapter {name} changes {len(changed)} weights of its base, e.g. {changed[0]}, also when it is "
            "disabled, as trained biases and initialisations such as PiSSA do. So the network without it is not the "
            f"reference. Name the reference: --reference {below}."
        )
    return cast(Any, adapted).eval()


def _refuse_other_parts(adapted: Any, name: str) -> None:
    """Raise ValueError if the adapter's file holds weights that this network has no place for, e.g. another head."""
    from peft import set_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    # a second time, because from_pretrained does not tell
    report = set_peft_model_state_dict(adapted, load_peft_weights(name, device="cpu"))
    if report.unexpected_keys:
        raise ValueError(
            f"The adapter {name} holds {', '.join(sorted(report.unexpected_keys)[:3])}, which a "
            f"{type(adapted.get_base_model()).__name__} does not have, so it was trained for another kind of model and "
            "its log-probs are no rewards. Give an adapter of a language model."
        )


def _checksums(network: nn.Module) -> dict[str, int]:
    """The sum of the bits of every weight, by its name without an adapter."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return {
        name.replace(".base_layer", "").replace(".original_module", ""): int(
            weights.detach().contiguous().view(integers[weights.element_size()]).sum(dtype=torch.int64)
        )
        for name, weights in network.named_parameters(remove_duplicate=False)
    }


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides that peft 0.21 uses a name that transformers 5.23 is about to drop, and what ``load_adapted`` verifies."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Careful, disabling adapter layers with bias")
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield
