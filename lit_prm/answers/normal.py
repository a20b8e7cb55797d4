"""The normal form of an answer, and its exact value if it is a number."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

LONGEST = 300  # characters; a longer "answer" is prose or a derivation and is compared as text only
LONGEST_RAW = 2000  # characters; a longer raw answer is not normalised

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
        (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![a-zA-Z])|(?<!\s)\s*\b(?:degrees?|percent)\b|\\?%", ""),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(?=[\d{])", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"(?<![\d.])\.(?=\d)", "0."),
        (r"^[\s*\"']+", ""),
        (r"(?<![\s*\"'.,;:])[\s*\"'.,;:]+$", ""),
        (r"^\(\s*([A-Za-z])\s*\)$", r"\1"),  # the option (C)
        (r"^[A-Za-z]\s*=\s*+(?=[^=]+$)", ""),  # x = 5
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
WORDS = re.compile(r"[^\W\d_]{3,}(?:[\s,-]+[^\W\d_]+)*")
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")


def normalise(answer: str) -> str:
    r"""The answer without typesetting and units: delimiters, spaces, dollars, percent, degrees, ``\text``, units.

    ``\dfrac12`` is ``\frac{1}{2}``, ``.5`` is ``0.5``, ``1,000`` is ``1000``, ``1 1/2`` is ``\frac{3}{2}``, ``x = 5``
    is ``5``, ``5 square inches`` is ``5``; words become lower case. Units are removed unread: 5 km is 5 m. Two numbers
    stay two: ``2 3`` is not ``23``. Law: normalising twice equals normalising once. An answer of more than
    ``LONGEST_RAW`` characters is prose and stays unchanged.
    """
    return _normalised(answer) if len(answer) <= LONGEST_RAW else answer


@lru_cache(maxsize=2**16)
def _normalised(answer: str) -> str:
    text = answer.translate(_SYMBOLS)
    for pattern, replacement in _NOTATION:
        text = pattern.sub(replacement, text)
    if quantity := _UNITS.fullmatch(text):
        text = quantity.group(1)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "").replace(" ", "")
    if mixed := _MIXED.fullmatch(text):
        sign, whole, *parts = mixed.groups()
        top, bottom = (int(part) for part in parts if part is not None)
        text = rf"{sign}\frac{{{int(whole) * bottom + top}}}{{{bottom}}}"
    spaced = " ".join(text.split())
    return spaced.casefold() if WORDS.fullmatch(text) else _SPACES.sub("", spaced)


@lru_cache(maxsize=65536)  # the same few answers are compared many times
def number(answer: str) -> Fraction | None:
    """Exact value of a normalised integer, decimal or fraction of integers; None for another answer."""
    match = _NUMBER.fullmatch(answer) if len(answer) <= LONGEST else None
    if match is None:
        return None
    sign, decimal, *parts = match.groups()
    top, bottom = (p for p in parts if p is not None) if decimal is None else (decimal, "1")
    if int(bottom) == 0:
        return None
    return (-1 if sign == "-" else 1) * Fraction(top) / int(bottom)
