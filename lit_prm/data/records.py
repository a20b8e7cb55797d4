"""The records that everything else works on: Problem, Rollout and Group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

Message = dict[str, Any]  # {"role": ..., "content": ...} and further fields, as chat templates take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question x. ``prompt`` is a string (one user turn) or a tuple of chat messages.

    A last message of the assistant is the beginning of the response. ``options`` are further arguments of the chat
    template, such as ``tools``.
    """

    prompt: str | tuple[Message, ...]
    id: str
    answer: str | None = None
    subject: str | None = None
    level: int | None = None
    options: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The question's own text, which de-duplication and contamination checks compare."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(m["content"] or "" for m in self.prompt if m["role"] == "user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled response y with its outcome label: a training example or a best-of-N candidate.

    ``steps``, if given, concatenate to ``response``. ``first_error`` is the index of the first wrong step, -1 if every
    step is right, None if unknown. ``step_labels`` has a number in [0, 1] for every step, nan if unknown.
    ``error_kinds`` has the kind of error of every step in the data set's own words, "" for none. All need ``steps``.
    ``message`` is the response as a chat message if that has more fields than its text, such as ``tool_calls``:
    ``Encoder.written_out`` makes the chat template's text of it.
    """

    response: str
    correct: bool | None = None
    answer: str | None = None
    steps: tuple[str, ...] | None = None
    first_error: int | None = None
    step_labels: tuple[float, ...] | None = None
    generator: str | None = None
    error_kinds: tuple[str, ...] | None = None
    message: Message | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and "".join(self.steps) != self.response:
            raise ValueError(
                f"steps do not tile the response: they join to {''.join(self.steps)[:60]!r}..., "
                f"the response is {self.response[:60]!r}.... Give steps that concatenate to the response."
            )
        for name, values in (("step labels", self.step_labels), ("error kinds", self.error_kinds)):
            if values is not None and len(values) != len(self.steps or ()):
                raise ValueError(f"{len(values)} {name} for {len(self.steps or ())} steps. Give one for each step.")

    @property
    def first_error_kind(self) -> str | None:
        """The kind of the first wrong step; None without an error or without kinds."""
        kinds = self.error_kinds or ()
        return kinds[self.first_error] or None if self.first_error in range(len(kinds)) else None  # type: ignore[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One problem with its K rollouts: the unit of data and of batching."""

    problem: Problem
    rollouts: tuple[Rollout, ...]

    @property
    def accuracy(self) -> float:
        """Share of right responses among the labelled ones; nan if none is labelled."""
        labels = [r.correct for r in self.rollouts if r.correct is not None]
        return sum(labels) / len(labels) if labels else float("nan")

    def keep(self, indices: Iterable[int]) -> Group:
        """The same problem with the rollouts at ``indices``, in that order."""
        return replace(self, rollouts=tuple(self.rollouts[i] for i in indices))
