"""Which of the chosen responses a loss can be trained on: labelled ones, in problems that have a term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lit_prm.data.batch import Encoded
from lit_prm.data.records import Group
from lit_prm.losses import Loss


def labelled(groups: Sequence[Group], source: str) -> list[Group]:
    """The groups without unlabelled responses; raises if ``source``, the file's name, has no labelled ones."""
    known = [group.keep(i for i, r in enumerate(group.rollouts) if r.correct is not None) for group in groups]
    usable = [group for group in known if group.rollouts]
    if not usable:
        raise ValueError(
            f"{source} has no labelled responses to train on. Give correctness (in rows of one response: label), or "
            "label the responses first."
        )
    return usable


def with_step_labels(groups: Sequence[Group], loss: Loss, source: str) -> list[Group]:
    """The groups without responses that lack step labels, if the loss trains on step labels; otherwise unchanged."""
    if loss.label != "steps":
        return list(groups)
    known = [group.keep(i for i, r in enumerate(group.rollouts) if r.step_labels) for group in groups]
    usable = [group for group in known if group.rollouts]
    if not usable:
        raise ValueError(
            f"{type(loss).__name__} trains on labels of steps and {source} has none. Set data.labeler, for example to "
            "MathShepherd, or give step_labels beside steps."
        )
    return usable


def with_a_term(encoded: Sequence[Encoded], loss: Loss) -> list[Encoded]:
    """The rows without problems that have no term in the loss because all their labels are equal, renumbered."""
    if not loss.contrast:
        return list(encoded)
    labels: dict[int, set[float]] = {}
    for row in encoded:
        labels.setdefault(row.group, set()).add(row.label)
    kept = [row for row in encoded if len(labels[row.group]) > 1]
    if not kept:
        raise ValueError(
            f"{type(loss).__name__} compares right with wrong responses and no problem has both. "
            "Raise data.responses, or train with CE, which needs no pairs."
        )
    return [replace(row, row=i) for i, row in enumerate(kept)]


def token_counts(rollouts: Sequence[Encoded]) -> dict[str, int]:
    """Number of responses, of their prompts' tokens and of their own tokens."""
    prompts = sum(row.prompt_length for row in rollouts)
    return {
        "rollout_responses": len(rollouts),
        "rollout_prompt_tokens": prompts,
        "rollout_response_tokens": sum(map(len, rollouts)) - prompts,
    }
