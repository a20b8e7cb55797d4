"""Three short responses with the rewards that training gives them: a loaded reward model must reproduce these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lit_prm.data.batch import collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.models.reward_model import RewardModel
from lit_prm.scoring.base import Scorer

CHECK_FILE = "check.json"  # in an exported folder

# Largest difference between log-ratios (or log-odds) of one response computed in different ways, by precision.
_NOISE = {"float32": 2e-3, "float16": 0.1, "bfloat16": 0.5}
_SAME_MACHINE = {**_NOISE, "float32": 1e-5}  # on the machine and with the kernels of the export itself
_ROUNDING = 1e-6  # of float32 sums, as a share of them: an implicit reward is the difference of two

_PROBLEM = "What is 2 * (3 + 4)?"
_RESPONSES = (
    "Step 1: 3 + 4 = 7\n\nStep 2: 2 * 7 = 14\n\nThe answer is \\boxed{14}.",
    "Step 1: 2 * 3 = 6\nStep 2: 6 + 4 = 10\nThe answer is 10",
    "14",
)
SAMPLES = Group(problem=Problem(prompt=_PROBLEM, id="check"), rollouts=tuple(Rollout(response=r) for r in _RESPONSES))


@torch.no_grad()
def sampled(reward_model: RewardModel, encoder: Encoder) -> list[dict[str, Any]]:
    """Tokens and rewards of the samples, computed as in training: one padded batch through the reward model."""
    rows = encoder.encode([SAMPLES])
    batch = collate(rows)
    training = reward_model.training
    values = reward_model.eval()(batch)
    reward_model.train(training)
    steps, valid = reward_model.step_rewards(values, batch.step)
    return [
        {
            "ids": row.ids.tolist(),
            "prompt_length": row.prompt_length,
            "reward": float(values[i, len(row) - 1]),
            "step_rewards": [float(x) if ok else None for x, ok in zip(steps[i], valid[i], strict=True)],
        }
        for i, row in enumerate(rows)
    ]


def verify_folder(folder: Path, scorer: Scorer, encoder: Encoder, *, exact: bool = False) -> None:
    """Raise ValueError unless the scorer of an exported folder reproduces the rewards in its ``check.json``.

    ``exact``: the export was just made, so that only the order of sums may differ.
    """
    file = folder / CHECK_FILE
    if not file.is_file():
        raise ValueError(
            f"{folder} has no {CHECK_FILE} to compare with. Export the model again with python -m lit_prm export."
        )
    check = json.loads(file.read_text())
    precisions = (str(check["dtype"]), str(scorer.identity.get("dtype", "float32")))
    known = _SAME_MACHINE if exact else _NOISE
    noise = max(known.get(name, min(known.values())) for name in precisions)
    remedy = (
        "Report this as a bug."
        if exact
        else "Give the reference that reward.json names, or export again with python -m lit_prm export."
    )
    verify(scorer, encoder, check["samples"], noise * (scorer.identity.get("beta") or 1.0), remedy)


def verify(
    scorer: Scorer,
    encoder: Encoder,
    samples: Sequence[Mapping[str, Any]],
    noise: float,
    remedy: str = "Report this as a bug.",
) -> None:
    """Raise ValueError if the samples get other tokens than in training, or other rewards.

    Rewards may differ by ``noise`` and by the rounding of the sums that they are differences of.
    """
    for i, (row, sample) in enumerate(zip(encoder.encode([SAMPLES]), samples, strict=True)):
        if row.ids.tolist() != sample["ids"]:
            raise ValueError(
                "The tokenizer or chat template is not the one that this model was trained with: response "
                f"{i} of its check has {len(row)} tokens instead of {len(sample['ids'])}, or other tokens. Give the "
                "exported tokenizer."
            )
    for i, (scored, sample) in enumerate(zip(scorer.score([SAMPLES])[0], samples, strict=True)):
        ours, trained = (scored.reward, *scored.step_rewards), (sample["reward"], *sample["step_rewards"])
        most = noise + _ROUNDING * subtracted(scorer, scored.reference_logps)
        if not close(ours, trained, most):
            raise ValueError(
                f"Response {i} of the model's check and its steps have rewards {formatted(ours)}; in training they had "
                f"{formatted(trained)}, more than {most:.2g} apart. The cause is another reference, other weights, "
                f"another beta or another step rule. {remedy}"
            )


def subtracted(scorer: Scorer, logps: Sequence[float | None] | None) -> float:
    """The size of the two sums whose difference an implicit reward is; its rounding error is a share of this."""
    return (scorer.identity.get("beta") or 1.0) * abs(sum(x for x in logps or () if x is not None))


def close(ours: Sequence[float | None], trained: Sequence[float | None], most: float) -> bool:
    """True if numbers and None are in the same places and differ by at most ``most`` plus 1e-4 of the first.

    nan is close to nothing. A batch may have more steps than a response, so None at the end does not count.
    """
    size = max(len(ours), len(trained))
    pairs = zip(*((*row, *[None] * (size - len(row))) for row in (ours, trained)), strict=True)
    far = most + 1e-4 * abs(trained[0] or 0.0)
    return all(a is b is None or (a is not None and b is not None and abs(a - b) <= far) for a, b in pairs)


def formatted(rewards: Sequence[float | None]) -> str:
    """Rewards for an error message."""
    return ", ".join("none" if r is None else f"{r:.6g}" for r in rewards)
