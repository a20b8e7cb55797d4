"""Final answers: extract them from a response, normalise, compare, group the equal ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

from lit_prm.equivalence import symbolically_equal

LONGEST = 300  # characters; a longer "answer" is prose or a derivation and is compared as text only

# ---- extract ------------------------------------------------------------------------------------

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_MARKER = re.compile(r"\banswer(?:\s+is|\s*:)[\s:*]*", re.IGNORECASE)
_DISPLAY = re.compile(r"\\\[(.+?)\\\]|\$\$(.+?)\$\$", re.DOTALL)
_SENTENCE = re.compile(r"(.+?)(?:[.!?](?=\s|$)|\n|$)")
_PROSE = re.compile(r"\s(?:is|are|we|by)\s|(?:(?<!\\)\b[A-Za-z]{2,}\b.*){4}", re.DOTALL)
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
    """
    said = map(_value_of_prose, _TAG.findall(text)), map(_value_of_prose, _sentences(text))
    for found in (_boxes(text), _HASHES.findall(text), *said):
        answers = [answer for raw in found if (answer := raw.strip(" \t\n*"))]
        if answers:
            return answers[-1]
    return text.strip() if _BARE.fullmatch(text) else None


def guess_answer(text: str) -> str | None:
    """``extract_answer``, else the last bold text, formula or number: for responses that state no answer.

    Half-finished responses get an answer too, so labels made with it are doubtful; votes gain from it.
    """
    return extract_answer(text) or _last_value(text)


def _value_of_prose(said: str) -> str:
    return (_last_value(said) if _PROSE.search(said) else None) or said


def _last_value(text: str) -> str | None:
    """The last bold text, formula or number; of a chain of equations, its last side."""
    values = [next(part for part in found if part) for found in _VALUE.findall(text)]
    return values[-1].rpartition("=")[2].strip() or None if values else None


def _boxes(text: str) -> Iterator[str]:
    for opening in _BOX.finditer(text):
        end = _closing_brace(text, opening.end())
        if end is not None:
            yield text[opening.end() : end]


def _closing_brace(text: str, start: int) -> int | None:
    """Where the brace opened just before ``start`` closes; None when it never does."""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return start + brace.start()
    return None


def _sentences(text: str) -> Iterator[str]:
    for marker in _MARKER.finditer(text):
        display = _DISPLAY.match(text, marker.end())
        sentence = _SENTENCE.match(text, marker.end())
        if display:
            yield display.group(1) or display.group(2)
        elif sentence:
            yield sentence.group(1)


# ---- normalise ----------------------------------------------------------------------------------

_SYMBOLS = str.maketrans({"−": "-", "π": r"\pi ", "∞": r"\infty ", "°": None, "×": r"\times ", "·": r"\cdot "})
_NOTATION = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![a-zA-Z])", ""),
        (r"(?<!\\)\\[()\[\]]|\\?\$", ""),  # formula delimiters, dollars
        (r"(?<!\\)\\!|\{(?=,\})|(?<=\{,)\}", ""),  # 1,\!000 and 1{,}000
        (r"(?<=\d)\\,(?=\d{3}(?!\d))", ""),  # 1\,000
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
        (r"\\(?:text(?:bf|it|rm|sf)?|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![a-zA-Z])|\s*\b(?:degrees?|percent)\b|\\?%", ""),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(?=[\d{])", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"(?<![\d.])\.(?=\d)", "0."),
        (r"^[\s*\"']+|[\s*\"'.,;:]+$", ""),
        (r"^\(\s*([A-Za-z])\s*\)$", r"\1"),  # the option (C)
        (r"^[A-Za-z]\s*=\s*(?=[^=]+$)", ""),  # x = 5
    )
)
_FRACTION = r"(?:(\d+)/(\d+)|\\frac\{(-?\d+)\}\{(\d+)\})"
_NUMBER = re.compile(rf"([-+]?)(?:(\d+(?:\.\d*)?)|{_FRACTION})")
_MIXED = re.compile(r"(-?)(\d+)(?:\s+(\d+)/(\d+)|\s*\\frac\{(\d+)\}\{(\d+)\})")
_UNITS = re.compile(
    r"([-+]?\d[\d,]*(?:\.\d*)?|[-+]?\d+/\d+|-?\\frac\{\d+\}\{\d+\})"
    r"(?:\s+(?!(?:and|or|times|over|pi|[ap]m|dozen|hundred|thousand|[mbtr]+illion)\b)"
    r"(?:[A-Za-z-]{3,}|[ckm]?m|ft|in|mi|k?g|mg|lbs?|oz|hr|s)\b(?:\s*\^\s*\{?\d\}?)?)+"
)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?")
_WORDS = re.compile(r"[^\W\d_]{3,}(?:[\s,-]+[^\W\d_]+)*")
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_BASE = re.compile(r"(\d[\dA-F]*)_(?:(\d+)|\{(\d+)\})")  # 1101_2; in x_1 and \log_2 a letter stands before it


@lru_cache(maxsize=2**16)
def normalise(answer: str) -> str:
    r"""The answer without what only typesets it: delimiters, spaces, dollars, percent, degrees, ``\text``, units.

    ``\dfrac12`` is ``\frac{1}{2}``, ``.5`` is ``0.5``, ``1,000`` is ``1000``, ``1 1/2`` is ``\frac{3}{2}``, ``x = 5``
    is ``5``, ``5 square inches`` is ``5``; words lose their case. A unit is dropped without being read: 5 km
    is 5 m. Two numbers stay two: ``2 3`` is not ``23``. Normalising twice changes nothing more.
    """
    text = answer.translate(_SYMBOLS)
    for pattern, replacement in _NOTATION:
        text = pattern.sub(replacement, text)
    if found := _UNITS.fullmatch(text):
        text = found.group(1)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "").replace(" ", "")
    if found := _MIXED.fullmatch(text):
        text = _improper(*found.groups())
    spaced = " ".join(text.split())
    return spaced.casefold() if _WORDS.fullmatch(text) else _SPACES.sub("", spaced)


def _improper(sign: str, whole: str, *parts: str | None) -> str:
    top, bottom = (int(part) for part in parts if part is not None)
    return rf"{sign}\frac{{{int(whole) * bottom + top}}}{{{bottom}}}"


def _number(answer: str) -> Fraction | None:
    """The exact value of a normalised integer, decimal or fraction of integers."""
    found = _NUMBER.fullmatch(answer) if len(answer) <= LONGEST else None
    if found is None:
        return None
    sign, decimal, *parts = found.groups()
    top, bottom = (p for p in parts if p is not None) if decimal is None else (decimal, "1")
    if int(bottom) == 0:
        return None
    return (-1 if sign == "-" else 1) * Fraction(top) / int(bottom)


# ---- compare ------------------------------------------------------------------------------------


def equivalent(a: str, b: str, timeout: float = 3.0) -> bool:
    """Whether two answers are the same: as text, as exact numbers, or symbolically; symmetric, never raises.

    Symbolic comparison runs in a killable worker; what it cannot decide within ``timeout`` seconds, or what
    crashes it, is not equivalent. Words and very long answers are equal only as text. A number with another
    base behind it in digits is another, one without a base too: math-verify would read ``10_2`` and ``10`` alike.
    """
    first, second = normalise(a), normalise(b)
    if _bases(first) != _bases(second):
        return False
    return _same(*sorted(_BASE.sub(r"\1", x) for x in (first, second)), timeout)


def _bases(answer: str) -> list[str]:
    """The base written behind each number that has one, in order."""
    return [plain or braced for _, plain, braced in _BASE.findall(answer)]


@lru_cache(maxsize=2**16)
def _same(first: str, second: str, timeout: float) -> bool:
    if first == second:
        return True
    if _number(first) is not None and _number(second) is not None:
        return _number(first) == _number(second)
    if any(not x or len(x) > LONGEST or _WORDS.fullmatch(x) for x in (first, second)):
        return False
    return symbolically_equal(first, second, timeout)


def is_correct(response: str, gold: str) -> bool:
    """Whether the response states an answer equivalent to ``gold``; no answer is wrong."""
    answer = extract_answer(response)
    return answer is not None and equivalent(answer, gold)


def cluster(answers: Sequence[str | None]) -> list[int]:
    """[K] the group of each answer: ids in order of first appearance, -1 for no answer.

    An answer joins the first group whose first member it is equivalent to: only answers are compared, the
    gold one is not an input. Repeats, and numbers among themselves, never reach the symbolic comparison.
    """
    ids: dict[Fraction | str, int] = {}
    found: list[str] = []  # the normalised first member of every group
    result = []
    for answer in answers:
        text = None if answer is None else normalise(answer)
        result.append(-1 if text is None else _group(text, ids, found))
    return result


def _group(text: str, ids: dict[Fraction | str, int], found: list[str]) -> int:
    value = _number(text)
    key = text if value is None else value
    if key not in ids:
        ids[key] = next((i for i, first in enumerate(found) if equivalent(first, text)), len(found))
        if ids[key] == len(found):
            found.append(text)
    return ids[key]
