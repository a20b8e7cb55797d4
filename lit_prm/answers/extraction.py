"""Extracts the final answer of a response."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import islice

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_MARKER = re.compile(r"\banswer(?:\s+is|\s*:)[\s:*]*", re.IGNORECASE)
_DISPLAY = re.compile(r"\\\[(.+?)\\\]|\$\$(.+?)\$\$", re.DOTALL)
_SENTENCE = re.compile(r"(.+?)(?:[.!?](?=\s|$)|\n|$)")
_VERB = re.compile(r"\s(?:is|are|we|by)\s")
_WORD = re.compile(r"(?<!\\)\b[A-Za-z]{2,}\b")
_BARE = re.compile(r"\s*(?:\$[^$\n]+\$|\\\([^\n]+?\\\)|[-+]?[\d.,/]*\d%?)\.?\s*")
_VALUE = re.compile(
    r"\*\*([^*\n]+)\*\*|\\\[(.+?)\\\]|\\\((.+?)\\\)|\$\$(.+?)\$\$|(?<!\\)\$([^$\n]+)(?<!\\)\$"
    r"|((?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)",
    re.DOTALL,
)


def extract_answer(text: str) -> str | None:
    r"""The final answer that a response states, or None.

    The first of these that exists: the last ``\boxed{}`` or ``\fbox{}`` with balanced braces; the text after the last
    ``####``; the last ``<answer>`` tag; the rest of the sentence after the last "answer is" or "answer:"; the whole
    response if it is a single number or formula. If a tag or sentence is prose, the answer is the last value in it.
    The time is linear in the length of the response.
    """
    tagged = reversed(_TAG.findall(text[: text.rfind("</answer>") + len("</answer>")]))
    prose = map(_value_of_prose, tagged), map(_value_of_prose, _sentences(text))
    places: tuple[Iterator[str], ...] = (_boxes(text), reversed(_HASHES.findall(text)), *prose)
    for last_first in places:
        if answer := next(filter(None, (raw.strip(" \t\n*") for raw in last_first)), None):
            return answer
    return text.strip() if _BARE.fullmatch(text) else None


def guess_answer(text: str) -> str | None:
    """``extract_answer``, else the last bold text, formula or number of the response.

    Also a cut response gets an answer. This helps votes, but makes labels unreliable.
    """
    return extract_answer(text) or _last_value(text)


def _value_of_prose(text: str) -> str:
    """The last value in a text of four words or with a verb; any other text is the value itself."""
    is_prose = _VERB.search(text) or len(list(islice(_WORD.finditer(text), 4))) == 4
    return (_last_value(text) if is_prose else None) or text


def _last_value(text: str) -> str | None:
    """The last bold text, formula or number; the last side of a chain of equations."""
    values = deque(_VALUE.finditer(_closable(text)), maxlen=1)
    if not values:
        return None
    start, end = values[0].span(values[0].lastindex or 0)
    return text[start:end].rpartition("=")[2].strip() or None


def _closable(text: str) -> str:
    """The text without formula openings that are never closed: the search would read to the end for each."""
    for opening, closing in ((r"\[", r"\]"), (r"\(", r"\)")):
        closed = text.rfind(closing) + 1
        text = text[:closed] + text[closed:].replace(opening, "  ")
    return text


def _boxes(text: str) -> Iterator[str]:
    """Contents of closed boxes, from the last opening to the first."""
    openings = [box.end() for box in _BOX.finditer(text)]
    closings = _closing_braces(text) if openings else {}
    yield from (text[start : closings[start]] for start in reversed(openings) if start in closings)


def _closing_braces(text: str) -> dict[int, int]:
    """Position of the closing brace by position of the content's start."""
    opened, closings = list[int](), dict[int, int]()
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.end())
        elif brace.group() == "}" and opened:
            closings[opened.pop()] = brace.start()
    return closings


def _sentences(text: str) -> Iterator[str]:
    for marker in reversed(list(_MARKER.finditer(text))):
        if display := _DISPLAY.match(text, marker.end()):
            yield display.group(1) or display.group(2)
        elif sentence := _SENTENCE.match(text, marker.end()):
            yield sentence.group(1)
