"""Checks that a scorer gives the rewards of training, before a long job starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lit_prm.data.records import Group
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.check_samples import close, formatted, subtracted
from lit_prm.scoring.rewards import Rewards

# Largest difference between two ways to compute a reward, as a share of the sums whose difference the reward is.
TOLERANCE = {"float32": 1e-4, "float16": 1e-3, "bfloat16": 1e-2}


def refuse_disagreement(scorer: Scorer, by_training: Callable[[Group], Rewards], groups: Sequence[Group]) -> None:
    """Raise ValueError, with both numbers, unless responses scored together get the same rewards as in training.

    ``by_training`` computes the rewards of a group's only response, alone in its batch. Compared are up to three
    responses of the first problem and of the problem with the longest text.
    """
    chosen = [group.keep(range(min(len(group.rollouts), 3))) for group in _chosen(groups)]
    tolerance = TOLERANCE.get(str(scorer.identity.get("dtype")), min(TOLERANCE.values()))
    for group, rewards in zip(chosen, scorer.score(chosen), strict=True):
        for k, together in enumerate(rewards):
            alone = by_training(group.keep([k]))
            most = tolerance * max(1.0, abs(alone.reward), subtracted(scorer, alone.reference_logps))
            ours, trained = ((r.reward, *r.step_rewards) for r in (together, alone))
            if not close(ours, trained, most):
                raise ValueError(
                    f"Problem {group.problem.id}, response {k}: the scorer's rewards of the response and its steps are "
                    f"{formatted(ours)}, training's are {formatted(trained)}, more than {most:.2g} apart. Score with "
                    "--dtype float32, and report it if they still differ."
                )


def _chosen(groups: Sequence[Group]) -> list[Group]:
    answered = [group for group in groups if group.rollouts]
    longest = max(answered, key=lambda g: len(g.problem.text) + max(len(r.response) for r in g.rollouts))
    return [answered[0]] if longest is answered[0] else [answered[0], longest]
