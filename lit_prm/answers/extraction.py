"""Extracts the final answer of a response."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from lit_prm.answers.boxes import boxes

_REASONED = re.compile(
    r"</(?:think(?:ing)?|reasoning|thought|reflection)>|\[/THINK\]|<\|end_of_thought\|>", re.IGNORECASE
)
_THINKS = re.compile(r"<think(?:ing)?>|\[THINK\]|<\|begin_of_thought\|>", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]{1,300})(?=\n|$)")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_JSON = re.compile(r"\"(?:final[_ ]?)?answer\"\s*:\s*(\"(?:[^\"\\\n]|\\.){1,1000}\"|[^\s,}\]\"]{1,300})", re.IGNORECASE)
_MARKER = re.compile(
    r"(?<![A-Za-z])answers?(?:\s+to\s+[^.\n:]{1,60}?)?[*_]*\s*"
    r"(?:(?:is|are|was|equals?|(?:should|must|would|will)\s+be)\b|[:=])[\s:*_]*"
    r"|^[ \t#*_]*(?:the\s+)?(?:final\s+)?answer[ \t*_]*\n\s*",
    re.IGNORECASE | re.MULTILINE,
)
_DISPLAY = re.compile(r"\\\[(.{1,1000}?)\\\]|\$\$(.{1,1000}?)\$\$", re.DOTALL)
_SENTENCE = re.compile(r"(.{1,1000}?)(?:[.!?](?=[\s*_]|$)|\n|$)")
_LEAD = re.compile(
    r"(?:(?:therefore|thus|hence|then|so|simply|just|indeed|clearly|exactly|about|approximately|equal to"
    r"|equivalent to|given by|found|the|option|choice)"
    r"\b[\s,:]*)+(?=[\d$\\(*+-]|[A-J]\b)",
    re.IGNORECASE,
)
_REASON = re.compile(r",?\s(?:because|since|where)\s|,\s+(?:but|and\s+not|not)\s", re.IGNORECASE)
_COPULA = re.compile(r"\s(?:is|are|was|were|equals|has|have)(?=\s)")
_CHECKED = re.compile(r"(?:check|verif|confirm|test)\w*\s+(?:\w+\s+){0,3}$", re.IGNORECASE)  # we check our answer:
_VERB = re.compile(r"\s(?:is|are|was|were|has|have|equals|we|by)\s")
_WORD = re.compile(r"(?<!\\)\b[A-Za-z]{2,}\b")
_VALUED = re.compile(r"\d|\\[A-Za-z]|\$|\\\(|^\(?[A-J]\)?$")
_BARE = re.compile(r"\s*(?:\$[^$\n]+\$|\\\([^\n]+?\\\)|[-+]?[\d.,/]*\d%?)\.?\s*")
_VALUE = re.compile(
    r"\*\*([^*\n]+)\*\*|\\\[(.+?)\\\]|\\\((.+?)\\\)|\$\$(.+?)\$\$|(?<!\\)\$([^$\n]+)(?<!\\)\$"
    r"|((?<![\w.])-?\d+(?:,\d+)*(?:\.\d+)?(?:/\d+)?)",
    re.DOTALL,
)
_ASIDE = re.compile(r"\s*[,;]\s+(?!(?:and|or)\b)[A-Za-z]{2,}")  # 7, which is odd
_BEGINS = re.compile(r"[A-Za-z]{3,}\s")  # greater than 4
_GOES_ON = re.compile(r"\s*[-+*/=^(\\]")
_EDGES = " \t\r\n*_`"

Statement = tuple[int, str]  # where it begins, the answer that it states


def extract_answer(text: str) -> str | None:
    r"""The final answer that a response states, or None.

    Only the text behind the last reasoning block (``</think>``) counts, if there is any. Of these statements the last
    is the answer: ``\boxed{7}``, ``\fbox{7}`` or ``\boxed 7``, boxes joined by commas or "and" being one list;
    ``#### 7``, with nothing but a number or an expression on the line; ``<answer>7</answer>``; ``"answer": 7``; the
    value in the rest of the sentence behind "answer is", "answer:" or "answer =", or in the line below a heading "Final
    Answer". Words without a value ("the answer is Monday") count only where no other statement stands. Without a
    statement a text that is a single number or formula is the answer. The time is linear in the length of the response.
    """
    text = _behind_reasoning(text)
    last = [next((s for s in find(text) if s[1]), None) for find in _KINDS]
    if stated := max((s for s in last if s is not None), default=None):
        return stated[1]
    return next(_in_words(text), None) or (text.strip() if _BARE.fullmatch(text) else None)


def reference_answer(solution: str) -> str | None:
    """The answer of a reference solution: its last box, else what follows its last ``####``, else as of a response.

    Remarks behind the box ("we check our answer: ...") are common in such solutions, and none corrects the box.
    """
    boxed = next((answer for _, answer in boxes(solution) if answer), None)
    _, hashes, last = solution.rpartition("####")
    return boxed or (last.strip().partition("\n")[0].strip(_EDGES) if hashes else "") or extract_answer(solution)


def guess_answer(text: str) -> str | None:
    """``extract_answer``, else the last bold text, formula or number of the response.

    Also a cut response gets an answer. This helps votes, but makes labels unreliable.
    """
    return extract_answer(text) or _last_value(_behind_reasoning(text)) or _last_value(text)


def _behind_reasoning(text: str) -> str:
    """The text behind the last reasoning block, else the block; nothing of a block that was cut."""
    closed = deque(_REASONED.finditer(text), maxlen=1)
    behind = text[closed[0].end() :] if closed else text
    cut = _THINKS.search(behind)
    return (behind[: cut.start()] if cut else behind) if behind.strip() else text


# ---- statements, from the last to the first ----


def _headings(text: str) -> Iterator[Statement]:
    for match in reversed(list(_HASHES.finditer(text))):
        alone = match[1].strip(_EDGES)
        if not _WORD.search(alone) and _VALUED.search(alone):
            yield match.start(), alone


def _tags(text: str) -> Iterator[Statement]:
    end = text.rfind("</answer>") + len("</answer>")
    for match in reversed(list(_TAG.finditer(text, 0, end))):
        yield match.start(), _value_of_prose(match[1]).strip(_EDGES)


def _fields(text: str) -> Iterator[Statement]:
    for match in reversed(list(_JSON.finditer(text))):
        value = match[1]
        with suppress(ValueError):
            value = str(json.loads(value))
        yield match.start(), value.strip()


def _worded(text: str) -> Iterator[Statement]:
    for start, sentence in _sentences(text):
        value = _value_of_prose(sentence)
        if _VALUED.search(value) or value != sentence:
            yield start, value


_KINDS: tuple[Callable[[str], Iterator[Statement]], ...] = (boxes, _headings, _tags, _fields, _worded)


def _in_words(text: str) -> Iterator[str]:
    """Sentences about the answer without a value, and what a ``####`` in the last line says in at most three words."""
    yield from (sentence for _, sentence in _sentences(text) if sentence)
    last = _HASHES.search(text.rstrip(), text.rstrip().rfind("\n") + 1)
    if last and len(last[1].split()) <= 3:
        yield last[1].strip(_EDGES)


def _sentences(text: str) -> Iterator[Statement]:
    """What stands behind the last fifty words "answer is" and the like, up to the end of the sentence or a reason."""
    for marker in islice(reversed(list(_MARKER.finditer(text))), 50):
        if _CHECKED.search(text, max(marker.start() - 60, 0), marker.start()):
            continue
        if display := _DISPLAY.match(text, marker.end()):
            yield marker.start(), (display[1] or display[2]).strip()
        elif sentence := _SENTENCE.match(text, marker.end()):
            said = _without_reason(sentence[1]).strip(_EDGES)
            yield marker.start(), "" if said.startswith("not ") else said


def _without_reason(sentence: str) -> str:
    """``C`` of "therefore C because A is too small"."""
    said, *_ = _REASON.split(sentence, maxsplit=1)
    return _without_lead(said if _VALUED.search(said.strip()) else sentence)


def _without_lead(said: str) -> str:
    lead = _LEAD.match(said)
    return said[lead.end() :] if lead else said


# ---- the value in a text ----


def _value_of_prose(text: str) -> str:
    """The value behind the last verb of a text of four words or with a verb, else at its head, else its last value.

    Another text is the value itself, or the formula that it begins with if no value follows.
    """
    head, is_prose = _VALUE.match(text), _is_prose(text)
    tail = text[deque(_COPULA.finditer(text), maxlen=1)[0].end() :] if _COPULA.search(text) else ""
    if is_prose and _VALUED.search(tail) and not (head and _ASIDE.match(text, head.end())):
        tail = _without_lead(tail.strip(_EDGES))
        return (_last_value(tail) if _BEGINS.match(tail) else None) or _value_of_prose(tail)
    if head and (rest := text[head.end() :]) and not _GOES_ON.match(rest):
        is_formula = not head[head.re.groups] and not _VALUED.search(rest)
        if is_prose or is_formula:
            return _last_side(head) or text
    return (_last_value(text) if is_prose else None) or text


def _is_prose(text: str) -> bool:
    return bool(_VERB.search(text)) or len(list(islice(_WORD.finditer(text), 4))) == 4


def _last_value(text: str) -> str | None:
    """The last bold text, formula or number; the last side of a chain of equations."""
    values = deque(_VALUE.finditer(_closable(text)), maxlen=1)
    return _last_side(values[0]) if values else None


def _last_side(value: re.Match[str]) -> str | None:
    return value[value.lastindex or 0].rpartition("=")[2].strip() or None


def _closable(text: str) -> str:
    """The text without formula openings that are never closed: the search would read to the end for each."""
    for opening, closing in ((r"\[", r"\]"), (r"\(", r"\)")):
        closed = text.rfind(closing) + 1
        text = text[:closed] + text[closed:].replace(opening, "  ")
    return text
