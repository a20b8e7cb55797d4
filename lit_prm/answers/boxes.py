r"""Finds the contents of ``\boxed{...}``, from the last box to the first."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TOKEN = re.compile(r"[-+]?\d+(?:[.,]\d+)*|\\[A-Za-z]+(?:\{[^{}]*\})*|[A-Za-z]")  # \boxed 2
_JOINT = re.compile(
    r"(?:[\s$]|\\[()])*(?:(?:,|;|and|or|\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}|\\q?quad|\\[,; ])(?:[\s$]|\\[()])*)+"
)

Box = tuple[int, int, str]  # start, end, content


def boxes(text: str) -> Iterator[tuple[int, str]]:
    r"""Start and content of each closed box, from the last to the first; ``\boxed{3} and \boxed{4}`` is ``3, 4``."""
    answer, begin = "", len(text)
    for start, end, content in _single(text):
        if not answer:
            answer = content
        elif end <= begin <= end + 60 and _JOINT.fullmatch(text, end, begin):
            answer = answer if content == answer else f"{content}, {answer}"
        else:
            yield begin, answer
            answer = content
        begin = start
    yield begin, answer


def _single(text: str) -> Iterator[Box]:
    openings = list(_BOX.finditer(text))
    closings = _closing_braces(text) if openings else {}
    for box in reversed(openings):
        if (inside := box.end() + 1) in closings:
            yield box.start(), closings[inside] + 1, text[inside : closings[inside]].strip(" \t\r\n*")
        elif token := _TOKEN.match(text, box.end()):
            yield box.start(), token.end(), token.group()


def _closing_braces(text: str) -> dict[int, int]:
    """Position of the closing brace by position of the content's start."""
    opened, closings = list[int](), dict[int, int]()
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.end())
        elif brace.group() == "}" and opened:
            closings[opened.pop()] = brace.start()
    return closings
