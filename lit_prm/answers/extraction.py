"""The final answer that a response states."""

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
    r"""The final answer a response states, or None.

    The last ``\boxed{}`` or ``\fbox{}`` with balanced braces; else what follows the last ``####``; else the
    last ``<answer>`` tag; else the rest of the sentence after the last "answer is" or "answer:"; of both, where
    they are prose, the last value in it; else the whole response if it is nothing but one number or formula.
    Time grows with the length of the response, whatever it holds.
    """
    said = map(_value_of_prose, _tagged(text)), map(_value_of_prose, _sentences(text))
    places: tuple[Iterator[str], ...] = (_boxes(text), reversed(_HASHES.findall(text)), *said)
    for last_first in places:
        if answer := next(filter(None, (raw.strip(" \t\n*") for raw in last_first)), None):
            return answer
    return text.strip() if _BARE.fullmatch(text) else None


def guess_answer(text: str) -> str | None:
    """``extract_answer``, else the last bold text, formula or number: for responses that state no answer.

    Half-finished responses get an answer too, so labels made with it are doubtful; votes gain from it.
    """
    return extract_answer(text) or _last_value(text)


def _value_of_prose(said: str) -> str:
    return (_last_value(said) if _is_prose(said) else None) or said


def _is_prose(said: str) -> bool:
    return bool(_VERB.search(said)) or len(list(islice(_WORD.finditer(said), 4))) == 4


def _last_value(text: str) -> str | None:
    """The last bold text, formula or number; of a chain of equations, its last side."""
    values = deque(_VALUE.finditer(_closable(text)), maxlen=1)
    if not values:
        return None
    start, end = values[0].span(values[0].lastindex or 0)
    return text[start:end].rpartition("=")[2].strip() or None


def _closable(text: str) -> str:
    """The text with the openings of formulas that nothing closes blanked: each would be read to the end in vain."""
    for opening, closing in ((r"\[", r"\]"), (r"\(", r"\)")):
        closed = text.rfind(closing) + 1
        text = text[:closed] + text[closed:].replace(opening, "  ")
    return text


def _tagged(text: str) -> Iterator[str]:
    yield from reversed(_TAG.findall(text[: text.rfind("</answer>") + len("</answer>")]))


def _boxes(text: str) -> Iterator[str]:
    """Contents of boxes that close, the last to open first."""
    openings = [box.end() for box in _BOX.finditer(text)]
    closings = _closing_braces(text) if openings else {}
    yield from (text[start : closings[start]] for start in reversed(openings) if start in closings)


def _closing_braces(text: str) -> dict[int, int]:
    """Where each brace closes, by where its content begins."""
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
