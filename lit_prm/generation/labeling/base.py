"""The interface of step labelers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Rollout


class Labelled(NamedTuple):
    """Groups whose rollouts have ``steps`` and ``step_labels``, and the tokens that the labels cost, by kind.

    Completions that were read from a file cost as much as new ones: the cost is that of the labels, not of the run.
    """

    groups: list[Group]
    tokens: dict[str, int]


class Labeler(ABC):
    """Gives a label to every step of a response."""

    @abstractmethod
    def label(self, groups: Sequence[Group], encoder: Encoder, device: torch.device) -> Labelled:
        """The groups with labelled steps, in their order; groups that could not be labelled are left out."""


def steps_of(rollout: Rollout, encoder: Encoder) -> tuple[str, ...]:
    """The steps that training scores: the rollout's own steps, or those of the encoder's step rule."""
    return rollout.steps or tuple(encoder.steps.split(rollout.response))


def refuse_tokens_as_steps(encoder: Encoder) -> None:
    if not encoder.own_steps:
        raise ValueError(
            f"The step rule {type(encoder.steps).__name__} makes every token a step, but labels need steps of text. "
            "Set data.steps to a rule that cuts text, e.g. Newline or BlankLine."
        )
