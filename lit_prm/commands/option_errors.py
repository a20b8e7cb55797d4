"""Error messages for options that the parser refuses, with the names that it would accept."""

from __future__ import annotations

import re

import torch

import callbacks  # noqa: F401  their bare class names become known to configs
from lit_prm.data.regimes import Regime
from lit_prm.data.steps import StepRule
from lit_prm.generation.labeling import Labeler
from lit_prm.losses import Loss
from lit_prm.losses.pairs import Pairs
from lit_prm.models.reference import Reference
from lit_prm.models.reward_model import RewardModel
from lit_prm.storage.class_paths import known_names

# Options whose value can be a bare class name, and the base class of the value.
_BASES: dict[str, type] = {
    "loss": Loss, "pairs": Pairs, "reward_model": RewardModel, "reference": Reference, "steps": StepRule,
    "regimes": Regime, "labeler": Labeler,
}  # fmt: skip


def refuse_missing_gpu(accelerator: str, scale: str) -> None:
    """Raise ValueError if the trainer is to use a GPU and torch sees none."""
    available = torch.cuda.is_available() or (accelerator == "gpu" and torch.mps.is_available())
    if accelerator in ("gpu", "cuda") and not available:
        raise ValueError(
            f"trainer.accelerator is {accelerator} (scale {scale}), but torch {torch.__version__} sees no GPU here. "
            "Install a build of torch for CUDA, or take a scale for CPUs (tiny, smol). `plan` needs no GPU"
        )


def with_class_names(message: str) -> str:
    """The parser's message; for an unknown class followed by the names of the known ones."""
    key = re.search(r'Parser key "(?:\w+\.)*(\w+)"(?:(?!Parser key).)*import path', message, re.DOTALL)
    if key is None or key[1] not in _BASES:
        return message
    return f"{message}\n  known: {', '.join(known_names(_BASES[key[1]]))}; or the dotted path of your own class"
