"""What of a resolved configuration decides memory and time."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, cast

import torch

from lit_prm.plan.sharding import Sharding, Whole, Zero

_ADAMW: dict[str, Any] = {"class_path": "torch.optim.AdamW", "init_args": {}}


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to train one model on so many equal devices."""

    policy: str
    sharding: Sharding
    ranks: int
    nodes: int
    precision: str  # as the trainer's option
    dtype: torch.dtype  # weights as the reward model loads them
    checkpointing: bool
    accumulate: int
    batch_size: int
    responses: int  # of a problem
    max_length: int
    epochs: int
    word_head: bool  # rewards come from log-probs, not from a value head
    mismatched: bool  # every response is read once more, behind another prompt, without gradient
    reference: str  # stored, live, adapter off, none
    reference_dtype: torch.dtype
    optimizer: type[torch.optim.Optimizer]
    optimizer_options: tuple[tuple[str, Any], ...]
    on_gpu: bool

    @property
    def computes_in(self) -> torch.dtype:
        """Type of weights and activations in the forward pass, but for what autocast keeps in float32."""
        return torch.float32 if self.precision.startswith("32") else torch.bfloat16

    @property
    def weights_in(self) -> torch.dtype:
        """Type of the weights that gradients are taken of."""
        if self.sharding.has_masters or self.precision.endswith("true"):
            return self.computes_in
        return self.dtype

    @property
    def autocast(self) -> bool:
        """Whether every product casts its weights first."""
        return self.weights_in != self.computes_in

    @property
    def strategy(self) -> str:
        """What a table calls it."""
        return self.sharding.name if self.ranks > 1 or self.sharding.has_masters else "one device"

    @property
    def cuts(self) -> int:
        """Micro-batches of an update, over all devices."""
        return self.accumulate * self.ranks


def setup_of(config: dict[str, Any], *, on_gpu: bool) -> Setup:
    """The setup of a resolved configuration; what has no number yet is refused."""
    trainer, model, data = config["trainer"], config["model"], config["data"]
    reward, options = model["reward_model"], model["reward_model"].get("init_args") or {}
    if trainer["max_epochs"] == 0:
        raise ValueError(f"{config['name']} trains nothing (trainer.max_epochs 0); plan the experiment it starts from")
    nodes = _number("trainer.num_nodes", trainer.get("num_nodes") or 1)
    ranks = nodes * _number("trainer.devices", trainer["devices"])
    reference, reference_dtype = _reference(model, options)
    optimizer = model.get("optimizer") or _ADAMW
    optimizer_class = _optimizer(str(optimizer["class_path"]))
    return Setup(
        policy=str(options["policy"]),
        sharding=_sharding(trainer.get("strategy") or "auto", ranks),
        ranks=ranks,
        nodes=nodes,
        precision=str(trainer.get("precision") or "32-true"),
        dtype=_dtype(options.get("dtype", "float32")),
        checkpointing=bool(options.get("gradient_checkpointing")),
        accumulate=int(trainer["accumulate_grad_batches"]),
        batch_size=int(data["batch_size"]),
        responses=int(data.get("responses") or 1),
        max_length=int(data["max_length"]),
        epochs=int(trainer["max_epochs"]),
        word_head=not _class(reward["class_path"]).__name__.endswith("Head"),
        mismatched=bool(_class(model["loss"]["class_path"]).mismatched),
        reference=reference,
        reference_dtype=_dtype(reference_dtype),
        optimizer=optimizer_class,
        optimizer_options=_frozen(optimizer.get("init_args") or {}, optimizer_class),
        on_gpu=on_gpu,
    )


def _sharding(strategy: Any, ranks: int) -> Sharding:
    """DDP and one device by name, DeepSpeed by its options."""
    if isinstance(strategy, dict) and "stage" in (options := strategy.get("init_args") or {}):
        return Zero.of(options)
    name = strategy if isinstance(strategy, str) else str(strategy.get("class_path"))
    if name == "auto" or "ddp" in name.lower():
        return Whole()
    if name.startswith("deepspeed_stage_"):
        from lightning.pytorch.strategies import StrategyRegistry

        if name in StrategyRegistry and (known := StrategyRegistry[name]["init_params"]):
            return Zero.of(known)
    raise ValueError(
        f"trainer.strategy {name} is not one whose memory is known: auto, ddp, deepspeed_stage_1, _2, _3 and "
        "lit_prm.zero.ZeRO with its options; plan with one of these"
    )


def _reference(model: dict[str, Any], reward: dict[str, Any]) -> tuple[str, str]:
    """Kind and weights' type of what training's rewards are relative to."""
    if not _class(model["reward_model"]["class_path"]).__name__.endswith(("Reward", "Head")):
        raise ValueError(
            f"model.reward_model {model['reward_model']['class_path']} is none of lit_prm's; plan with ImplicitReward"
        )
    given = reward.get("training_reference") or reward.get("reference") or model.get("reference")
    if _class(model["reward_model"]["class_path"]).__name__.endswith("Head") or not given:
        return "none", "float32"
    kind = given["class_path"].rpartition(".")[2]
    known = {"Stored": "stored", "Frozen": "live", "AdapterOff": "adapter off", "Uniform": "none"}
    if kind not in known:
        raise ValueError(f"the memory of reference {kind} is not known; plan with one of {', '.join(known)}")
    return known[kind], (given.get("init_args") or {}).get("dtype", "float32")


def _optimizer(path: str) -> type[torch.optim.Optimizer]:
    """One that runs on tensors without data, which compiled ones of DeepSpeed do not: they keep what AdamW keeps."""
    if path.startswith("deepspeed.ops.adam."):
        return torch.optim.AdamW
    if path.startswith("torch.optim."):
        return cast(type[torch.optim.Optimizer], _class(path))
    raise ValueError(
        f"what optimizer {path} keeps is not known; plan with one of torch.optim or deepspeed.ops.adam, e.g. "
        "--model.optimizer torch.optim.AdamW"
    )


def _number(option: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{option} is {value!r}, and a plan needs a number; give --{option} 8, say") from None


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, "float32" if name == "auto" else name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"dtype {name!r} is none of torch's; give float32 or bfloat16")
    return found


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _frozen(options: dict[str, Any], kind: type[torch.optim.Optimizer]) -> tuple[tuple[str, Any], ...]:
    taken = {key: value for key, value in options.items() if key in signature(kind).parameters}
    return tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in taken.items())
