"""A scorer gives the rewards of training, or it is refused before it scores anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lit_prm.data.records import Group
from lit_prm.scoring.check_samples import alike, subtracted, told

if TYPE_CHECKING:
    from lit_prm.scoring.model_scorer import ModelScorer

# how far two ways to compute rewards may lie apart, as a share of what they are differences of
TOLERANCE = {"float32": 1e-4, "float16": 1e-3, "bfloat16": 1e-2}


def refuse_disagreement(scorer: ModelScorer, groups: Sequence[Group]) -> None:
    """Raise, with both numbers, unless some responses get the same rewards together as each alone by training.

    Looked at: up to three responses of the first problem and of the one with the longest text.
    """
    chosen = [group.keep(range(min(len(group.rollouts), 3))) for group in _chosen(groups)]
    most = TOLERANCE.get(str(scorer.identity.get("dtype")), min(TOLERANCE.values()))
    for group, rewards in zip(chosen, scorer.score(chosen), strict=True):
        for k, ours in enumerate(rewards):
            theirs = scorer.by_training(group.keep([k]))
            scale = max(1.0, abs(theirs.reward), subtracted(scorer, theirs.reference_logps))
            found, trained = ((r.reward, *r.step_rewards) for r in (ours, theirs))
            if not alike(found, trained, most * scale):
                raise ValueError(
                    f"problem {group.problem.id}, response {k}: the scorer's rewards of it and its steps are "
                    f"{told(found)}, training's {told(trained)}, more than {most * scale:.2g} away; score with --dtype "
                    "float32, and report it if they still differ"
                )


def _chosen(groups: Sequence[Group]) -> list[Group]:
    able = [group for group in groups if group.rollouts]
    longest = max(able, key=lambda g: len(g.problem.text) + max(len(r.response) for r in g.rollouts))
    return [able[0]] if longest is able[0] else [able[0], longest]
