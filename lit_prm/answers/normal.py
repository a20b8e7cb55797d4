"""The normal form of an answer, and its exact value if it is a number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from lit_prm.answers.units import without_plain, without_typeset

LONGEST = 300  # characters; a longer "answer" is prose or a derivation and is compared as text only
LONGEST_RAW = 2000  # characters; a longer raw answer is not normalised

_SYMBOLS = str.maketrans({
    "−": "-", "–": "-", "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "×": r"\times ", "·": r"\cdot ", "≤": r"\le ",
    "≥": r"\ge ", "≈": r"\approx ", "±": r"\pm ", "∅": r"\emptyset ", "²": "^2", "³": "^3",
    "€": None, "£": None, "₹": None, "¥": None,
})  # fmt: skip
_ARGUMENT = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*+\})*+\})*+)\}"
_TOKEN = r"(\\[A-Za-z]+(?![A-Za-z{])|\d|[A-Za-z])"  # an argument without braces: \frac\pi 2
_DELIMITERS = (
    (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![a-zA-Z])", ""),
    (r"(?<!\\)\\[()\[\]]|\\?\$", ""),  # formula delimiters, dollars
    (
        r"(?<=\d)\s*(?:,\s*\\!|\\!\s*,|\{,\}|(?<!\\)\\,)\s*(?=\d{3}(?!\d))",
        "",
    ),  # thousands: 1,\!000 and 1{,}000 and 1\,000
    (r"(?<!\\)\\!|\{(?=,\})|(?<=\{,)\}", ""),
    (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
)
_NOTATION = (
    (
        rf"\\(?:text(?:bf|it|rm|sf)?|math(?:rm|bf|it|sf)|mbox|operatorname|underline|boldsymbol|bm)\s*{_ARGUMENT}",
        r" \1 ",
    ),
    (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})(?:\s*[CF]\b)?|\\degree(?![a-zA-Z])|\\?%", ""),
    (r"(?<!\s)\s*\b(?:degrees?(?:\s+(?:celsius|fahrenheit|[CF]\b))?|percent(?:age(?:\s+points?)?)?)\b", ""),
    (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (rf"\\frac\s*{_TOKEN}\s*(?={_TOKEN}|\{{)", r"\\frac{\1}"),
    (rf"(\\frac\s*{_ARGUMENT})\s*{_TOKEN}", r"\1{\3}"),
    (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
    (r"(?<![\d.])\.(?=\d)", "0."),
    (r"^[\s*\"'`]+", ""),
    (r"(?<![\s*\"'`.,;:])[\s*\"'`.,;:]+$", ""),
    (r"(?<=\S)\s+\([A-Za-z][A-Za-z. ]{3,}\)$", ""),  # 3.14 (approximately)
    (r"^(?:about|approximately|roughly)\s+(?=[-+\d\\])", ""),
    (r"^(?:[A-Za-z]\s*)?\\approx(?![a-zA-Z])\s*", ""),
    (r"^\(\s*([A-Za-z])\s*\)$", r"\1"),  # the option (C)
    (r"^[A-Za-z]\s*(?:=|\\in(?![a-zA-Z]))\s*+(?=[^=]+$)", ""),  # x = 5
)
_COMPILED = [[(re.compile(p), r) for p, r in rules] for rules in (_DELIMITERS, _NOTATION)]
_AND = re.compile(r"\s*,?\s*\b(?:and|or)\b\s*")
_PROSE = re.compile(r"(?<![\\A-Za-z])(?!(?:and|or)\b)[A-Za-z]{3,}")
_SAME_NAME = re.compile(r"([A-Za-z])(?:_\{?\w\}?)?\s*=[^=,]+(?:,\s*\1(?:_\{?\w\}?)?\s*=[^=,]+)+")
_NAME = re.compile(r"(?:^|(?<=,))\s*[A-Za-z](?:_\{?\w\}?)?\s*=\s*")
_REPEATING = re.compile(r"(?<![\d.])(-?)(\d{1,9})\.(\d{0,9})\\(?:overline|bar|dot)\s*\{?(\d{1,9})\}?")
_FRACTION = r"(?:(\d+)/(\d+)|\\frac\{(-?\d+)\}\{(-?\d+)\})"
_POWER = r"(?:[eE]([-+]?\d{1,3})|(?:\\times|\\cdot)10\^(?:\{([-+]?\d{1,3})\}|(\d)))?"
_NUMBER = re.compile(rf"([-+]?)(?:(\d+(?:\.\d*)?){_POWER}|{_FRACTION})")
_MIXED = re.compile(r"(-?)(\d+)(?:\s+(\d+)/(\d+)|\s*\\frac\{(\d+)\}\{(\d+)\})")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?")
WORDS = re.compile(r"[^\W\d_]{3,}(?:[\s,-]+[^\W\d_]+)*")
_SPACES = re.compile(r"(\\[A-Za-z]+ (?=[A-Za-z])|(?<=\d) (?=\d))| ")  # the space of \pi r and of 2 3 stays


def normalise(answer: str) -> str:
    r"""The answer without typesetting and units: delimiters, spaces, dollars, percent, degrees, ``\text``, units.

    ``\dfrac12`` is ``\frac{1}{2}``, ``.5`` is ``0.5``, ``1,000`` is ``1000``, ``1 1/2`` is ``\frac{3}{2}``,
    ``0.\overline{3}`` is ``\frac{1}{3}``, ``x = 5`` is ``5``, ``x = 2 or x = 3`` is ``2,3``, ``5 square inches`` is
    ``5``; words become lower case, symbols keep their case. Units are removed unread: 5 km is 5 m. Two numbers stay
    two: ``2 3`` is not ``23``. Law: normalising twice equals normalising once. An answer of more than ``LONGEST_RAW``
    characters is prose and stays unchanged.
    """
    return _normalised(answer) if len(answer) <= LONGEST_RAW else answer


@lru_cache(maxsize=2**16)
def _normalised(answer: str) -> str:
    delimiters, notation = _COMPILED
    text = without_typeset(_applied(delimiters, answer.translate(_SYMBOLS)))
    text = without_plain(_listed(_applied(notation, text)))
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "").replace(" ", "")
    text = _REPEATING.sub(_repeating, text)
    if mixed := _MIXED.fullmatch(text):
        sign, whole, *parts = mixed.groups()
        top, bottom = (int(part) for part in parts if part is not None)
        text = rf"{sign}\frac{{{int(whole) * bottom + top}}}{{{bottom}}}"
    spaced = " ".join(text.split())
    return spaced.casefold() if WORDS.fullmatch(text) else _SPACES.sub(r"\1", spaced)


def _applied(rules: Sequence[tuple[re.Pattern[str], str]], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _listed(text: str) -> str:
    """``x = 2 or x = 3`` as ``2, 3``; a text with words stays."""
    if not _PROSE.search(text):
        text = _AND.sub(", ", text)
    return _NAME.sub(" ", text) if _SAME_NAME.fullmatch(text.strip()) else text


def _repeating(match: re.Match[str]) -> str:
    """A decimal whose digits repeat, as a fraction."""
    sign, whole, fixed, again = match.groups()
    nines = (10 ** len(again) - 1) * 10 ** len(fixed)
    value = Fraction(int(whole + fixed + again) - int(whole + fixed), nines)
    return rf"{sign}\frac{{{value.numerator}}}{{{value.denominator}}}"


@lru_cache(maxsize=65536)  # the same few answers are compared many times
def number(answer: str) -> Fraction | None:
    r"""Exact value of a normalised integer, decimal, fraction of integers or ``3\times10^5``, else None."""
    match = _NUMBER.fullmatch(answer) if len(answer) <= LONGEST else None
    if match is None:
        return None
    sign, decimal, *rest = match.groups()
    power = next((int(p) for p in rest[:3] if p is not None), 0)
    top, bottom = (p for p in rest[3:] if p is not None) if decimal is None else (decimal, "1")
    if int(bottom) == 0:
        return None
    return (-1 if sign == "-" else 1) * Fraction(top) / int(bottom) * Fraction(10) ** power
