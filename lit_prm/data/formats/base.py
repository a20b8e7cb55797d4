"""The base class of all file layouts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lit_prm.data.formats.chat import prompt
from lit_prm.data.formats.columns import BadRow, Row, gold, identity, is_nan, items, level, maybe_text, needed, wrong
from lit_prm.data.records import Group, Message, Problem, Rollout

Question = str | tuple[Message, ...]


@dataclass(frozen=True, kw_only=True)
class Layout(ABC):
    """A file layout: the columns that every row needs, and which column holds what.

    A subclass is a shape that several layouts share; it defines ``rollouts``. An object of it is one layout, entered
    in ``layouts.LAYOUTS``.
    """

    name: str
    columns: tuple[str, ...]  # every row must have them
    nullable: tuple[str, ...] = ()  # those of them whose value may be null
    merges: bool = False  # True if rows with the same prompt are one problem
    question: str = "prompt"
    gold: str = "reference"
    subject: tuple[str, ...] = ("subject",)  # columns of which the first that a row has is read, as with ids
    ids: tuple[str, ...] = ("unique_id", "id")
    correct: str = ""  # column with the outcome label of a response, or with those of all responses

    def fits(self, row: Row) -> bool:
        return set(self.columns) <= row.keys()

    def read(self, row: Row) -> Group:
        """The group of a row; raises ``BadRow`` if a needed column is missing or null."""
        for column in self.columns:
            if column not in row or column not in self.nullable:
                needed(row, column)
        return self.group(row)

    def group(self, row: Row) -> Group:
        """The problem of a row with its responses; every column in ``columns`` is there."""
        question = self.asked(row)
        group = Group(problem=self.problem(row, question), rollouts=tuple(self.rollouts(row, question)))
        if group.rollouts and all(rollout.correct is None for rollout in group.rollouts):
            self._refuse_lost_labels(row)
        return group

    def _refuse_lost_labels(self, row: Row) -> None:
        if lost := sorted(n for n in row.keys() - set(self.columns) if n.lower() in _LABELS and _holds(row[n])):
            own = f"as {self.correct}" if self.correct else "as another layout does (docs/formats.md)"
            raise BadRow(f"{', '.join(lost)} would be lost: {self.name} names the label {own}. Rename or remove it")

    def asked(self, row: Row) -> Question:
        """The prompt of a row."""
        return prompt(row[self.question], self.question)

    def answered(self, row: Row) -> str | None:
        """The gold answer of a row, None if it has none."""
        return gold(row.get(self.gold), self.gold)

    def problem(self, row: Row, question: Question) -> Problem:
        """The problem with this prompt, and with the answer, id, subject, level and template options of the row."""
        return Problem(
            prompt=question,
            id=identity(row, self.ids),
            answer=self.answered(row),
            subject=maybe_text(next((row[c] for c in self.subject if c in row), None), self.subject[0]),
            level=level(row.get("level")),
            options=_options(row),
        )

    @abstractmethod
    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        """The responses of a row to its prompt ``question``."""


_LABELS = frozenset({"correct", "correctness", "is_correct", "is_right", "kto_tag", "label", "labels", "outcomes"})


def _holds(value: object) -> bool:
    """True for a value, or a list with a value."""
    return any(map(_holds, value)) if isinstance(value, list | tuple) else not (value is None or is_nan(value))


_OWN = frozenset(
    {"add_generation_prompt", "chat_template", "continue_final_message", "conversation", "return_dict",
     "return_tensors", "tokenize"}
)  # fmt: skip


def _options(row: Row) -> dict[str, object] | None:
    """What a row gives the chat template beside the messages: its ``tools`` and ``chat_template_kwargs``."""
    tools, more = row.get("tools"), row.get("chat_template_kwargs")
    if more is not None and not isinstance(more, Mapping):
        raise wrong("chat_template_kwargs", more, "an object", 'write it as {"enable_thinking": false}')
    options = {k: v for k, v in (more or {}).items() if v is not None}
    if taken := sorted(_OWN & options.keys()):
        raise wrong(
            "chat_template_kwargs", taken, "options of the template alone", "remove what the encoder sets itself"
        )
    return options | ({"tools": list(items(tools, "tools"))} if tools else {}) or None
