"""Step rules, which cut a response into steps without losing a character, and the step of every token."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import ClassVar


class StepRule(ABC):
    """Base of rules for where a step begins; a subclass defines ``starts``.

    Law: the steps tile the text. ``"".join(rule.split(text)) == text`` for any text, and no step is empty or white
    space alone: white space joins the step before it, at the start of the text the step after it.

    ``tokens_behind`` is None where a step ends with its last token; else each step but the last ends so many tokens
    behind the token that ends its text.
    """

    tokens_behind: ClassVar[int | None] = None

    @abstractmethod
    def starts(self, text: str) -> Iterable[int]:
        """Character positions at which a new step begins; 0 may be missing."""

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
            raise ValueError(
                f"step pattern {regex!r} is not a regular expression: {error}. Correct the pattern."
            ) from None

    def starts(self, text: str) -> Iterable[int]:
        return (match.start() for match in self.regex.finditer(text))


class Marked(Pattern):
    """A step begins at each line that starts with `Step k:`, the paper's format, also as a heading or in bold."""

    def __init__(self) -> None:
        super().__init__(r"^[ \t]*(?:#{1,6}[ \t]+)?[*_]{0,3}Step \d+[*_]{0,3}:")


class EurusMarked(Marked):
    """The steps of ``Marked``, with rewards read where EurusPRM's card reads them.

    That is two tokens behind the text of each step but the last, so the tokens of "Step" and often of the blank before
    the next number count for the step before. The spans of characters stay those of ``Marked``.
    """

    tokens_behind = 2


class BlankLine(StepRule):
    """A step ends with the blank lines behind it."""

    def starts(self, text: str) -> Iterable[int]:
        return (match.end() for match in re.finditer(r"\n[^\S\n]*\n\s*", text))


class Newline(StepRule):
    """A step is a line with its line break."""

    def starts(self, text: str) -> Iterable[int]:
        return (match.end() for match in re.finditer(r"\n\s*", text))


class EveryLine(StepRule):
    """A step is a line with its line break, as Skywork's PRM judges.

    A blank line is a step of its own here. In every other rule white space alone is no step.
    """

    def starts(self, text: str) -> Iterable[int]:
        return (match.end() for match in re.finditer("\n", text))

    def split(self, text: str) -> list[str]:
        return re.findall(r"[^\n]*\n|[^\n]+", text)


class Sentence(StepRule):
    """A step ends after . ! or ? and the white space behind it; decimal points and `e.g.` stay inside."""

    def starts(self, text: str) -> Iterable[int]:
        return (match.end() for match in re.finditer(r"(?<!\b[A-Za-z])(?<!\.[A-Za-z])[.!?][)\]\"'$]*\s+", text))


class EachToken(StepRule):
    """Every token is a step. The encoder, which knows the tokens, makes these steps; ``split`` returns one piece."""

    def starts(self, text: str) -> Iterable[int]:
        return ()


def laid(steps: Sequence[str], response: str) -> tuple[str, ...] | None:
    """The steps as pieces that tile the response, if both are equal up to white space; None if they are not.

    Steps that join to the response stay as they are. Otherwise white space between two steps belongs to the step
    before it, white space at the start to the first step with text; a step without text becomes "".
    """
    if "".join(steps) == response:
        return tuple(steps)
    bare = ["".join(step.split()) for step in steps]
    if "".join(bare) != "".join(response.split()):
        return None
    letters = [i for i, letter in enumerate(response) if not letter.isspace()]
    begun = list(accumulate(map(len, bare), initial=0))[:-1]  # letters before each step
    starts = [0 if n == 0 else letters[n] if n < len(letters) else len(response) for n in begun]
    return tuple(response[a:b] for a, b in pairwise([*starts, len(response)]))


def shifted(steps: Sequence[str], offsets: Sequence[tuple[int, int]], behind: int) -> list[int]:
    """The step of every token if each step but the last ends ``behind`` tokens after the token that ends its text."""
    lengths = [len(step) for step in steps]
    texts = [start + len(step.rstrip()) for start, step in zip(accumulate(lengths, initial=0), steps, strict=False)]
    starts = [start for start, _ in offsets]
    ends = [bisect_left(starts, end) + behind for end in texts[:-1]]
    return [bisect_right(ends, token) for token in range(len(offsets))]


def step_of_tokens(step_lengths: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The step of every token, from the steps' lengths in characters and the tokens' offsets (start, end).

    A token belongs to the step of its first character, so a token across a boundary belongs to the earlier step.
    Tokens after the text (the end of turn) belong to the last step that has text. The result never decreases.
    """
    ends, step, steps = list(accumulate(step_lengths)), 0, list[int]()
    last = max((i for i, length in enumerate(step_lengths) if length), default=0)
    for start, _ in offsets:
        while step < last and ends[step] <= max(start, 0):
            step += 1
        steps.append(step)
    return steps
