"""The base class of all file layouts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from lit_prm.data.formats.columns import Row, gold, needed, problem
from lit_prm.data.records import Group, Message, Rollout


class Layout(ABC):
    """A file layout: the columns that a row needs, and how a row becomes a problem with its responses.

    A new layout is a subclass with ``name``, ``columns`` and ``group``, entered in ``layouts.LAYOUTS``.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # every row must have them
    nullable: ClassVar[tuple[str, ...]] = ()  # columns whose value may be null
    merges: ClassVar[bool] = False  # True if rows with the same prompt are one problem
    distinct: ClassVar[bool] = False  # True if a repeated response is dropped

    def fits(self, row: Row) -> bool:
        return set(self.columns) <= set(row)

    def read(self, row: Row) -> Group:
        """The group of a row; raises ``BadRow`` if a needed column is missing or null."""
        for column in self.columns:
            if column not in row or column not in self.nullable:
                needed(row, column)
        return self.group(row)

    @abstractmethod
    def group(self, row: Row) -> Group:
        """The problem of a row with its responses; every column in ``columns`` is there."""


def one_group(row: Row, question: str | tuple[Message, ...], *rollouts: Rollout) -> Group:
    """The problem with the prompt ``question``, with its gold answer if the row has one, and these responses."""
    return Group(problem=problem(row, question, gold(row.get("reference"), "reference")), rollouts=rollouts)
