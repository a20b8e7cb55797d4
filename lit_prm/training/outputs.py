"""What validation, test and predict steps return: the rewards of a batch of responses.

``LitPRM`` returns ``Scores``. The callbacks ``BestOfN`` and ``StepBench`` work with any LightningModule whose
``validation_step`` and ``test_step`` return ``Scores`` or a mapping with the same keys, of which ``row``, ``steps`` and
``valid`` are needed. By default ``reward`` is the sum of the step rewards and ``reference_valid`` is ``valid``. Without
``reference_steps`` the baselines that choose by likelihood are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

NEEDED = ("row", "steps", "valid")


class Scores(NamedTuple):
    """Rewards of B responses and of their S steps, as a validation or test step returns them."""

    row: Tensor  # [B] index of the response in its candidate set (``batch.row`` of ``RolloutDataModule``)
    reward: Tensor  # [B] r(y)
    steps: Tensor  # [B, S] step rewards, 0 where not valid
    valid: Tensor  # [B, S] True where there is a step with a reward
    reference_steps: Tensor  # [B, S] summed reference log-probs of each step; nan without a reference
    reference_valid: Tensor  # [B, S] True where a step exists, whether or not the reward model scores it


def as_scores(outputs: Any, source: str) -> Scores:
    """The outputs of a step as ``Scores`` on the CPU; ``source`` names the step in errors, e.g. "M.test_step"."""
    if not isinstance(outputs, Scores):
        outputs = _from_mapping(outputs, source)
    return Scores(*(tensor.detach().cpu() for tensor in outputs))


def _from_mapping(outputs: Any, source: str) -> Scores:
    values = outputs if isinstance(outputs, Mapping) else {}
    missing = [key for key in NEEDED if not isinstance(values.get(key), Tensor)]
    if missing:
        kind = f"a mapping with {', '.join(map(str, values)) or 'no keys'}" if values else type(outputs).__name__
        raise ValueError(
            f"{source} returned {kind}. Callbacks that evaluate candidate sets need the tensors {', '.join(NEEDED)}; "
            f"missing: {', '.join(missing)}. Return {{'row': batch.row, 'steps': step rewards [B, S], 'valid': mask "
            "[B, S]}; lit_prm.training.outputs lists the optional keys."
        )
    steps, valid = values["steps"], values["valid"].bool()
    if steps.ndim != 2 or steps.shape != valid.shape or values["row"].shape != steps.shape[:1]:
        shapes = ", ".join(f"{key} {list(values[key].shape)}" for key in NEEDED)
        raise ValueError(f"{source} returned {shapes}. The shapes must be row [B], steps [B, S] and valid [B, S].")
    steps = steps.masked_fill(~valid, 0.0)
    return Scores(
        row=values["row"],
        reward=values.get("reward", steps.double().sum(1).float()),
        steps=steps,
        valid=valid,
        reference_steps=values.get("reference_steps", torch.full_like(steps, math.nan)),
        reference_valid=values.get("reference_valid", valid).bool(),
    )
