"""Which responses a loss is trained on, of those that the data regime chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lit_prm.data.batch import Encoded
from lit_prm.data.records import Group
from lit_prm.losses import Loss


def labelled(groups: Sequence[Group], source: str) -> list[Group]:
    """The groups without unlabelled responses; a ``source`` that leaves nothing is refused."""
    known = [group.keep(i for i, r in enumerate(group.rollouts) if r.correct is not None) for group in groups]
    found = [group for group in known if group.rollouts]
    if not found:
        raise ValueError(
            f"{source} has no labelled responses to train on; give correctness (in rows of one "
            "response: label) or label them first"
        )
    return found


def with_step_labels(groups: Sequence[Group], loss: Loss, source: str) -> list[Group]:
    """The groups with the responses that have step labels, where the loss trains on those; else as they are."""
    if loss.label != "steps":
        return list(groups)
    known = [group.keep(i for i, r in enumerate(group.rollouts) if r.step_labels) for group in groups]
    found = [group for group in known if group.rollouts]
    if not found:
        raise ValueError(
            f"{type(loss).__name__} trains on labels of steps and {source} has none; set data.labeler, "
            "to MathShepherd say, or give step_labels beside steps"
        )
    return found


def with_a_term(encoded: Sequence[Encoded], loss: Loss) -> list[Encoded]:
    """The rows, numbered anew, without problems whose labels are all alike, where those have no term in the loss."""
    if not loss.contrast:
        return list(encoded)
    labels: dict[int, set[float]] = {}
    for row in encoded:
        labels.setdefault(row.group, set()).add(row.label)
    kept = [row for row in encoded if len(labels[row.group]) > 1]
    if not kept:
        raise ValueError(
            f"{type(loss).__name__} compares right with wrong responses and no problem has both; "
            "raise data.responses, or train with CE, which needs no pairs"
        )
    return [replace(row, row=i) for i, row in enumerate(kept)]


def token_counts(rollouts: Sequence[Encoded]) -> dict[str, int]:
    """Responses, and tokens of their prompts and of themselves."""
    prompts = sum(row.prompt_length for row in rollouts)
    return {
        "rollout_responses": len(rollouts),
        "rollout_prompt_tokens": prompts,
        "rollout_response_tokens": sum(map(len, rollouts)) - prompts,
    }
