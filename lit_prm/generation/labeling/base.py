"""What a source of step labels is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Rollout


class Labelled(NamedTuple):
    """Groups whose rollouts have ``steps`` and ``step_labels``, and the tokens that these labels cost.

    What is kept in a file counts as if it had just been made: the cost is that of the labels, not of the run.
    """

    groups: list[Group]
    tokens: dict[str, int]


class Labeler(ABC):
    """A source of labels for every step of a response."""

    @abstractmethod
    def label(self, groups: Sequence[Group], encoder: Encoder, device: torch.device) -> Labelled:
        """The groups in their order with labelled steps, without those that could not be labelled."""


def steps_of(rollout: Rollout, encoder: Encoder) -> tuple[str, ...]:
    """The steps that training will score: the response's own, else those of the encoder's rule."""
    return rollout.steps or tuple(encoder.steps.split(rollout.response))


def refuse_tokens_as_steps(encoder: Encoder) -> None:
    if not encoder.own_steps:
        raise ValueError(
            f"step rule {type(encoder.steps).__name__} makes every token a step, and labels are about steps of text; "
            "set data.steps to one that cuts text, e.g. Newline or BlankLine"
        )
