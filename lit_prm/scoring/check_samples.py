"""Three short responses with the rewards that training gives them: what a loaded reward model must say again."""

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

# How far log-ratios (and log-odds) of one response may lie apart between ways to compute them, by precision.
_NOISE = {"float32": 2e-3, "float16": 0.1, "bfloat16": 0.5}
_HERE = {**_NOISE, "float32": 1e-5}  # on the machine and by the kernels of the export itself
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
    """Tokens and rewards of the samples by the training path: one padded batch through the reward model itself."""
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
    """Refuse a scorer of an exported folder that does not say again what training said of its samples.

    ``exact``: where the export was just made, nothing but the order of sums may differ.
    """
    file = folder / CHECK_FILE
    if not file.is_file():
        raise ValueError(
            f"{folder} has no {CHECK_FILE} to check by; export the model again with python -m lit_prm export"
        )
    found = json.loads(file.read_text())
    precisions = (str(found["dtype"]), str(scorer.identity.get("dtype", "float32")))
    known = _HERE if exact else _NOISE
    noise = max(known.get(name, min(known.values())) for name in precisions)
    remedy = (
        "report it"
        if exact
        else "give the reference that reward.json names, or export again with python -m lit_prm export"
    )
    verify(scorer, encoder, found["samples"], noise * (scorer.identity.get("beta") or 1.0), remedy)


def verify(
    scorer: Scorer, encoder: Encoder, samples: Sequence[Mapping[str, Any]], noise: float, remedy: str = "report it"
) -> None:
    """Refuse a tokenizer or template that makes other tokens, and rewards further than ``noise``, and than sums are
    rounded, from those of training.
    """
    ids = [row.ids.tolist() for row in encoder.encode([SAMPLES])]
    for i, (found, sample) in enumerate(zip(ids, samples, strict=True)):
        if found != sample["ids"]:
            raise ValueError(
                f"the tokenizer or chat template is not the one this model was trained with: response {i} of its check "
                f"has {len(found)} tokens instead of {len(sample['ids'])}, or other ones; give the exported tokenizer"
            )
    for i, (made, sample) in enumerate(zip(scorer.score([SAMPLES])[0], samples, strict=True)):
        ours, theirs = (made.reward, *made.step_rewards), (sample["reward"], *sample["step_rewards"])
        most = noise + _ROUNDING * subtracted(scorer, made.reference_logps)
        if not alike(ours, theirs, most):
            raise ValueError(
                f"response {i} of the model's check and its steps have rewards {told(ours)}, in training they had "
                f"{told(theirs)}, more than {most:.2g} away: another reference, other weights, another beta or step "
                f"rule; {remedy}"
            )


def subtracted(scorer: Scorer, logps: Sequence[float | None] | None) -> float:
    """The size of the sums whose difference an implicit reward is."""
    return (scorer.identity.get("beta") or 1.0) * abs(sum(x for x in logps or () if x is not None))


def alike(ours: Sequence[float | None], theirs: Sequence[float | None], most: float) -> bool:
    """Whether numbers and gaps stand in the same places, at most ``most`` and 1e-4 of the first apart; nan is not.

    A batch may have more steps than a response: gaps at its end do not count.
    """
    size = max(len(ours), len(theirs))
    pairs = zip(*((*row, *[None] * (size - len(row))) for row in (ours, theirs)), strict=True)
    far = most + 1e-4 * abs(theirs[0] or 0.0)
    return all(a is b is None or (a is not None and b is not None and abs(a - b) <= far) for a, b in pairs)


def told(rewards: Sequence[float | None]) -> str:
    """Rewards in a message."""
    return ", ".join("none" if r is None else f"{r:.6g}" for r in rewards)
