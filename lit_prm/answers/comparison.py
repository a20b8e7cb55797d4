"""Compares two answers: as text, as numbers, or symbolically."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lit_prm.answers.extraction import extract_answer
from lit_prm.answers.normal import LONGEST, WORDS, normalise, number
from lit_prm.answers.verdict_cache import symbolically_equal

_BASE = re.compile(r"(\d[\dA-F]*)_(?:(\d+)|\{(\d+)\})")  # 1101_2; in x_1 and \log_2 a letter stands before it
_NEGATED = re.compile(r"-\d*[A-Za-z]=[^=]+")  # -x = 12


def equivalent(a: str, b: str, timeout: float = 3.0) -> bool:
    """Whether two answers are equal as text, as exact numbers, or symbolically. Symmetric; never raises.

    math-verify compares symbolically in a worker process. Two answers are not equivalent if the comparison takes more
    than ``timeout`` seconds or crashes. Words and very long answers are equal only as text. Numbers with different
    bases, or with and without a base, differ, although math-verify reads ``10_2`` and ``10`` alike. Of an equation
    math-verify compares the right side, so ``-x = 12`` would equal 12; this function returns False for such a pair.
    """
    return all_equivalent([(a, b)], timeout)[0]


def all_equivalent(pairs: Sequence[tuple[str, str]], timeout: float = 3.0) -> list[bool]:
    """``equivalent`` of every pair; many pairs are compared on all cores."""
    equal: list[bool] = []
    unsettled: dict[tuple[str, str], list[int]] = {}
    for row, (a, b) in enumerate(pairs):
        first, second = normalise(a), normalise(b)
        settled = _settled(first, second)
        equal.append(settled or False)
        if settled is None:
            first, second = sorted(_BASE.sub(r"\1", x) for x in (first, second))
            unsettled.setdefault((first, second), []).append(row)
    verdicts = symbolically_equal(list(unsettled), timeout) if unsettled else []
    for rows, verdict in zip(unsettled.values(), verdicts, strict=True):
        for row in rows:
            equal[row] = verdict
    return equal


def _settled(first: str, second: str) -> bool | None:
    """Equality of two normalised answers by text, numbers and bases; None if it needs a symbolic comparison."""
    if first == second:
        return True
    if max(len(first), len(second)) > LONGEST or _bases(first) != _bases(second):
        return False
    first, second = (_BASE.sub(r"\1", x) for x in (first, second))
    if first == second:
        return True
    if number(first) is not None and number(second) is not None:
        return number(first) == number(second)
    if any(_NEGATED.fullmatch(x) and "=" not in y for x, y in ((first, second), (second, first))):
        return False
    return False if any(not x or WORDS.fullmatch(x) for x in (first, second)) else None


def _bases(answer: str) -> list[str]:
    """Bases that the answer writes behind its numbers, in order."""
    return [plain or braced for _, plain, braced in _BASE.findall(answer)]


def is_correct(response: str, gold: str) -> bool:
    """Whether the response states an answer equivalent to ``gold``; False if it states none."""
    answer = extract_answer(response)
    return answer is not None and equivalent(answer, gold)
