"""Checks that a scorer gives the rewards of training: three short samples of an export, or a job's own responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, FiniteFloat

from lit_prm.data.batch import collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.models.probes import in_eval_mode
from lit_prm.models.reward_model import RewardModel
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.rewards import Rewards
from lit_prm.storage.schemas import read_file

CHECK_FILE = "check.json"  # in an exported folder

# Largest difference between log-ratios (or log-odds) of one response computed in different ways, by precision.
_NOISE = {"float32": 2e-3, "float16": 0.1, "bfloat16": 0.5}
_SAME_MACHINE = {**_NOISE, "float32": 1e-5}  # on the machine and with the kernels of the export itself
# Largest difference between two ways to compute a reward, as a share of the sums whose difference the reward is.
TOLERANCE = {"float32": 1e-4, "float16": 1e-3, "bfloat16": 1e-2}
_ROUNDING = 1e-6  # of float32 sums, as a share of them: an implicit reward is the difference of two

_BUG = "Report this as a bug."

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
    with in_eval_mode(reward_model):
        values = reward_model(batch)
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


@dataclass(frozen=True)
class CheckSample:
    """A response of ``SAMPLES`` in training: its tokens and rewards."""

    ids: list[int]
    reward: FiniteFloat
    step_rewards: list[FiniteFloat | None]


@dataclass(frozen=True)
class Check:
    """The content of a ``check.json``."""

    dtype: str
    samples: Annotated[list[CheckSample], Field(min_length=len(_RESPONSES), max_length=len(_RESPONSES))]


def read_check(folder: Path) -> Check | None:
    """What the folder's scorer has to reproduce; None for a folder that is no export."""
    file = folder / CHECK_FILE
    return read_file(file, Check, "export the model again with python -m lit_prm export") if file.is_file() else None


def verify_folder(folder: Path, scorer: Scorer, encoder: Encoder, *, exact: bool = False) -> None:
    """Raise ValueError unless the scorer of an exported folder reproduces the rewards in its ``check.json``.

    ``exact``: the export was just made, so that only the order of sums may differ.
    """
    check = read_check(folder)
    if check is None:
        raise ValueError(
            f"{folder} has no {CHECK_FILE} to compare with. Export the model again with python -m lit_prm export."
        )
    precisions = (check.dtype, str(scorer.identity.get("dtype", "float32")))
    known = _SAME_MACHINE if exact else _NOISE
    noise = max(known.get(name, min(known.values())) for name in precisions)
    other = "Give the reference that reward.json names, or export again with python -m lit_prm export."
    verify(scorer, encoder, check.samples, noise * (scorer.identity.get("beta") or 1.0), _BUG if exact else other)


def verify(scorer: Scorer, encoder: Encoder, samples: Sequence[CheckSample], noise: float, remedy: str = _BUG) -> None:
    """Raise ValueError if the samples get other tokens than in training, or other rewards.

    Rewards may differ by ``noise`` and by the rounding of the sums that they are differences of.
    """
    for i, (row, sample) in enumerate(zip(encoder.encode([SAMPLES]), samples, strict=True)):
        if row.ids.tolist() != sample.ids:
            raise ValueError(
                "The tokenizer or chat template is not the one that this model was trained with: response "
                f"{i} of its check has {len(row)} tokens instead of {len(sample.ids)}, or other tokens. Give the "
                "exported tokenizer."
            )
    for i, (scored, sample) in enumerate(zip(scorer.score([SAMPLES])[0], samples, strict=True)):
        ours, trained = (scored.reward, *scored.step_rewards), (sample.reward, *sample.step_rewards)
        most = noise + _ROUNDING * _subtracted(scorer, scored.reference_logps)
        if not _close(ours, trained, most):
            raise ValueError(
                f"Response {i} of the model's check and its steps have rewards {_formatted(ours)}; in training they "
                f"had {_formatted(trained)}, more than {most:.2g} apart. The cause is another reference, other "
                f"weights, another beta or another step rule. {remedy}"
            )


def refuse_disagreement(scorer: Scorer, by_training: Callable[[Group], Rewards], groups: Sequence[Group]) -> None:
    """Raise ValueError, with both numbers, unless responses scored together get the same rewards as in training.

    ``by_training`` computes the rewards of a group's only response, alone in its batch. Compared are up to three
    responses of the first problem and of the problem with the longest text.
    """
    answered = [group for group in groups if group.rollouts]
    longest = max(answered, key=lambda g: len(g.problem.text) + max(len(r.response) for r in g.rollouts))
    compared = [answered[0]] if longest is answered[0] else [answered[0], longest]
    chosen = [group.keep(range(min(len(group.rollouts), 3))) for group in compared]
    tolerance = TOLERANCE.get(str(scorer.identity.get("dtype")), min(TOLERANCE.values()))
    for group, rewards in zip(chosen, scorer.score(chosen), strict=True):
        for k, together in enumerate(rewards):
            alone = by_training(group.keep([k]))
            most = tolerance * max(1.0, abs(alone.reward or 0.0), _subtracted(scorer, alone.reference_logps))
            ours, trained = ((r.reward, *r.step_rewards) for r in (together, alone))
            if not _close(ours, trained, most):
                raise ValueError(
                    f"Problem {group.problem.id}, response {k}: the scorer's rewards of the response and its steps are "
                    f"{_formatted(ours)}, training's are {_formatted(trained)}, more than {most:.2g} apart. Score with "
                    "--dtype float32, and report it if they still differ."
                )


def _subtracted(scorer: Scorer, logps: Sequence[float | None] | None) -> float:
    """The size of the two sums whose difference an implicit reward is; its rounding error is a share of this."""
    return (scorer.identity.get("beta") or 1.0) * abs(sum(x for x in logps or () if x is not None))


def _close(ours: Sequence[float | None], trained: Sequence[float | None], most: float) -> bool:
    """True if numbers and None are in the same places and differ by at most ``most`` plus 1e-4 of the first.

    nan is close to nothing. A batch may have more steps than a response, so None at the end does not count.
    """
    far = most + 1e-4 * abs(trained[0] or 0.0)
    pairs = zip_longest(ours, trained)
    return all(a is b is None or (a is not None and b is not None and abs(a - b) <= far) for a, b in pairs)


def _formatted(rewards: Sequence[float | None]) -> str:
    """Rewards for an error message."""
    return ", ".join("none" if r is None else f"{r:.6g}" for r in rewards)
