"""Lossless step splitting, and the step of every token by character offsets."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise


class StepRule(ABC):
    """Where one step of a response ends and the next begins.

    Law: the steps tile the text. ``"".join(rule.split(text)) == text`` for any text, no step is empty,
    and white space alone is no step (it joins the step before it, at the start the one after it).
    """

    @abstractmethod
    def starts(self, text: str) -> Iterable[int]:
        """Positions at which a new step begins; 0 need not be among them."""

    def split(self, text: str) -> list[str]:
        cuts = sorted({0, len(text), *self.starts(text)})
        steps: list[str] = []
        for a, b in pairwise(cuts):
            piece = text[a:b]
            if steps and (not piece.strip() or not steps[-1].strip()):
                steps[-1] += piece
            else:
                steps.append(piece)
        return steps


class Pattern(StepRule):
    """A step begins at every match of a regular expression."""

    def __init__(self, regex: str) -> None:
        try:
            self.regex = re.compile(regex, re.MULTILINE)
        except re.error as error:
            raise ValueError(f"step pattern {regex!r} is no regular expression: {error}") from None

    def starts(self, text: str) -> Iterable[int]:
        return (match.start() for match in self.regex.finditer(text))


class Marked(Pattern):
    """A step begins at each line that starts with `Step k:`, the paper's format."""

    def __init__(self) -> None:
        super().__init__(r"^[ \t]*Step \d+:")


class BlankLine(StepRule):
    """A step ends with the blank lines behind it."""

    def starts(self, text: str) -> Iterable[int]:
        return (match.end() for match in re.finditer(r"\n[^\S\n]*\n\s*", text))


class Newline(StepRule):
    """A step is a line with its line break."""

    def starts(self, text: str) -> Iterable[int]:
        return (match.end() for match in re.finditer(r"\n\s*", text))


class Sentence(StepRule):
    """A step ends after . ! or ? and the white space behind it; decimal points and `e.g.` stay inside."""

    def starts(self, text: str) -> Iterable[int]:
        return (match.end() for match in re.finditer(r"(?<!\b[A-Za-z])(?<!\.[A-Za-z])[.!?][)\]\"'$]*\s+", text))


class EachToken(StepRule):
    """Every token is a step of its own; only an encoder knows tokens, so the text stays one piece here."""

    def starts(self, text: str) -> Iterable[int]:
        return ()


def step_of_tokens(step_lengths: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The step of every token, given the steps' lengths in characters and the tokens' (start, end).

    A token belongs to the step its first character lies in, so one that spans a boundary ends the earlier
    step. Tokens behind the text (the end of turn) belong to the last step; the result never decreases.
    """
    ends = list(accumulate(step_lengths))
    last = max(len(ends) - 1, 0)
    found = (min(bisect_right(ends, max(start, 0)), last) for start, _ in offsets)
    return list(accumulate(found, max))
