"""Scored files with made-up rewards, for tests of `bon`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.data.records import Group
from lit_prm.data.steps import BlankLine
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import scored_row

IDENTITY: Mapping[str, Any] = {"policy": "made up", "beta": 0.05, "aggregate": "min"}


def rewarded(groups: Sequence[Group], seed: int, decimals: int = 1) -> list[list[Rewards]]:
    """Random step rewards, rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    return [[_rewards(rng, r.response, decimals) for r in g.rollouts] for g in groups]


def _rewards(rng: np.random.Generator, response: str, decimals: int) -> Rewards:
    ends = accumulate(map(len, BlankLine().split(response)), initial=0)
    spans = tuple(pairwise(ends))
    steps = rng.normal(size=len(spans)).round(decimals)
    return Rewards(
        reward=float(steps.sum()),
        step_spans=spans,
        step_rewards=tuple(steps.tolist()),
        step_values=tuple(steps.cumsum().tolist()),
        tokens=max(1, len(response) // 4),
        reference_logps=tuple((-rng.random(len(spans))).round(decimals).tolist()),
    )


def write_scored(
    path: Path, groups: Sequence[Group], rewards: Sequence[Sequence[Rewards]], identity: Mapping[str, Any] = IDENTITY
) -> str:
    rows = [scored_row(g, r, identity) for g, r in zip(groups, rewards, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
