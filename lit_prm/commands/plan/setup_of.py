"""Reads the setup of a run from its resolved configuration, and refuses settings whose memory is unknown."""

from __future__ import annotations

import math
from inspect import signature
from typing import Any

import torch

from lit_prm.commands.plan.setup import Setup
from lit_prm.commands.plan.sharding import Sharding, Whole, Zero
from lit_prm.losses import Loss
from lit_prm.models.adapters import AdaptedReward, AdapterOff, LoRAReward
from lit_prm.models.reference import Frozen, Reference, Stored, Uniform
from lit_prm.models.reward_model import ImplicitReward, RewardModel, ValueHead
from lit_prm.storage.class_paths import class_of

ZERO = "lit_prm.training.zero.ZeRO"

_REFERENCES = {Stored: "stored", Frozen: "live", AdapterOff: "adapter off", Uniform: "none"}  # and their subclasses


def setup_of(config: dict[str, Any], *, on_gpu: bool) -> Setup:
    """The setup of a resolved configuration; raise ValueError for settings whose memory is unknown."""
    trainer, model, data = config["trainer"], config["model"], config["data"]
    reward, options = model["reward_model"], model["reward_model"].get("init_args") or {}
    epochs, updates = trainer.get("max_epochs"), trainer.get("max_steps")  # -1 or null: no bound
    if epochs == 0 or updates == 0:
        what = "max_epochs" if epochs == 0 else "max_steps"
        raise ValueError(f"{config['name']} trains nothing (trainer.{what} 0). Plan the experiment that it starts from")
    most_updates = updates if updates and updates > 0 else None
    nodes = _number("trainer.num_nodes", trainer.get("num_nodes") or 1)
    ranks = nodes * _number("trainer.devices", trainer["devices"])
    reward_class = _reward_class(reward["class_path"])
    stored = _stored(model, options)
    reference, of_reference = _reference(model, reward_class, options)
    of_reference = stored or of_reference
    optimizer = model.get("optimizer") or {"class_path": "torch.optim.AdamW"}
    optimizer_class = _optimizer(str(optimizer["class_path"]))
    known = signature(optimizer_class).parameters
    chosen = {name: value for name, value in (optimizer.get("init_args") or {}).items() if name in known}
    made = Setup(
        policy=str(options["policy"]),
        sharding=_sharding(trainer.get("strategy") or "auto"),
        ranks=ranks,
        nodes=nodes,
        precision=str(trainer.get("precision") or "32-true"),
        dtype=_dtype(options.get("dtype", "float32")),
        lora=_lora(reward_class, options),
        attention=str(options.get("attention") or "sdpa"),
        checkpointing=bool(options.get("gradient_checkpointing")),
        accumulate=_number("trainer.accumulate_grad_batches", trainer["accumulate_grad_batches"]),
        batch_size=_number("data.batch_size", data["batch_size"]),
        responses=data.get("responses"),
        share_prompts=bool(data.get("share_prompts")),
        max_length=_number("data.max_length", data["max_length"]),
        epochs=math.inf if most_updates and epochs in (None, -1) else _number("trainer.max_epochs", epochs),
        most_updates=most_updates,
        word_head=reward_class.relative_to_reference,
        mismatched=class_of(model["loss"]["class_path"], Loss).mismatched,
        reference=reference,
        filled_by="nobody" if stored is None else "policy" if stored.get("from_policy") else "reference",
        same_model=of_reference.get("model") == options["policy"],
        reference_dtype=_dtype(of_reference.get("dtype", "float32")),
        optimizer=optimizer_class,
        optimizer_options=tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in chosen.items()),
        on_gpu=on_gpu,
    )
    if made.filled_by == "policy" and not made.policy_may_fill:
        raise ValueError(
            f"model.reference has from_policy, but the reference is {of_reference['model']} in {made.reference_in} and "
            f"the policy {made.policy} in {made.frozen_in}. Give both one model and dtype, or set from_policy to false"
        )
    return made


def _sharding(strategy: Any) -> Sharding:
    """The sharding of a strategy: DDP and one device by name, DeepSpeed by its options."""
    if isinstance(strategy, dict) and "stage" in (options := strategy.get("init_args") or {}):
        return Zero.of(options)
    name = strategy if isinstance(strategy, str) else str(strategy.get("class_path"))
    if name == "auto" or "ddp" in name.lower():
        return Whole()
    raise ValueError(
        f"the memory of trainer.strategy {name} is unknown. Plan with auto, ddp, or --trainer.strategy {ZERO} "
        "--trainer.strategy.init_args.stage 2 (or 1, 3)"
    )


def _reward_class(path: str) -> type[RewardModel]:
    """The class of the reward model, which must be one of those whose memory is known."""
    found: type[RewardModel] = class_of(path, RewardModel)
    if not issubclass(found, (ImplicitReward, ValueHead)):
        raise ValueError(f"model.reward_model {path} is none of lit_prm's; plan with ImplicitReward")
    return found


def _lora(reward: type[RewardModel], options: dict[str, Any]) -> tuple[int, tuple[str, ...], float] | None:
    if issubclass(reward, LoRAReward):
        return int(options.get("rank", 16)), tuple(options.get("targets") or ()), float(options.get("dropout", 0.0))
    if issubclass(reward, AdaptedReward):
        raise ValueError(
            "lit_prm.models.adapters.AdaptedReward reads an adapter that is there and trains nothing; plan what "
            "trains a new one: --model.reward_model lit_prm.models.adapters.LoRAReward"
        )
    return None


def _stored(model: dict[str, Any], reward: dict[str, Any]) -> dict[str, Any] | None:
    """Options of the store that a run fills before training, though it be for the baselines' sake alone."""
    given = [model.get("reference"), *(reward.get(f"{kind}reference") for kind in ("", "training_", "scoring_"))]
    return next((r["init_args"] for r in given if r and class_of(r["class_path"], Reference).keeps_copies), None)


def _reference(model: dict[str, Any], reward: type[RewardModel], options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Kind and options of what training's rewards are relative to."""
    own = options.get("training_reference") or options.get("reference")
    if not own and reward.has_own_reference:
        return _REFERENCES[AdapterOff], {}
    given = own or model.get("reference")
    if not reward.relative_to_reference or not given:
        return "none", {}
    used = class_of(given["class_path"], Reference)
    kind = next((kind for known, kind in _REFERENCES.items() if issubclass(used, known)), None)
    if kind is None:
        known = ", ".join(known.__name__ for known in _REFERENCES)
        raise ValueError(f"the memory of reference {used.__name__} is not known; plan with one of {known}")
    return kind, given.get("init_args") or {}


def _optimizer(path: str) -> type[torch.optim.Optimizer]:
    """An optimizer with the same memory that runs on tensors without data: AdamW for DeepSpeed's compiled Adam."""
    if path.startswith("deepspeed.ops.adam."):
        return torch.optim.AdamW
    if path.startswith("torch.optim."):
        return class_of(path, torch.optim.Optimizer)
    raise ValueError(
        f"the memory of optimizer {path} is unknown. Plan with one of torch.optim or deepspeed.ops.adam, e.g. "
        "--model.optimizer torch.optim.AdamW"
    )


def _number(option: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(f"{option} is {value!r}, but a plan needs a number above 0. Give one, e.g. --{option} 8")
    return number


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, "float32" if name == "auto" else name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype {name!r} is not one of torch's. Give float32 or bfloat16")
    return dtype
