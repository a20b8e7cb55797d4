"""Are two answers the same: as text, as numbers, or symbolically?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lit_prm.answers.extraction import extract_answer
from lit_prm.answers.normal import LONGEST, WORDS, normalise, number
from lit_prm.answers.verdict_cache import symbolically_equal

_BASE = re.compile(r"(\d[\dA-F]*)_(?:(\d+)|\{(\d+)\})")  # 1101_2; in x_1 and \log_2 a letter stands before it
_NEGATED = re.compile(r"-\d*[A-Za-z]=[^=]+")  # -x = 12


def equivalent(a: str, b: str, timeout: float = 3.0) -> bool:
    """Whether two answers are the same: as text, as exact numbers, or symbolically; symmetric, never raises.

    Symbolic comparison runs in a killable worker; what it cannot decide within ``timeout`` seconds, or what
    crashes it, is not equivalent. Words and very long answers are equal only as text. A number with another
    base behind it in digits is another, one without a base too: math-verify would read ``10_2`` and ``10`` alike.
    Of an equation it compares the right side, so ``-x = 12`` would be 12, and is ruled out here.
    """
    return all_equivalent([(a, b)], timeout)[0]


def all_equivalent(pairs: Sequence[tuple[str, str]], timeout: float = 3.0) -> list[bool]:
    """``equivalent`` of every pair; many are compared on all cores."""
    found: list[bool] = []
    unsettled: dict[tuple[str, str], list[int]] = {}
    for row, (a, b) in enumerate(pairs):
        first, second = normalise(a), normalise(b)
        settled = _settled(first, second)
        found.append(settled or False)
        if settled is None:
            first, second = sorted(_BASE.sub(r"\1", x) for x in (first, second))
            unsettled.setdefault((first, second), []).append(row)
    verdicts = symbolically_equal(list(unsettled), timeout) if unsettled else []
    for rows, equal in zip(unsettled.values(), verdicts, strict=True):
        for row in rows:
            found[row] = equal
    return found


def _settled(first: str, second: str) -> bool | None:
    """What needs no symbolic comparison of two normalised answers: text, numbers, bases; None for the others."""
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
    """The base written behind each number that has one, in order."""
    return [plain or braced for _, plain, braced in _BASE.findall(answer)]


def is_correct(response: str, gold: str) -> bool:
    """Whether the response states an answer equivalent to ``gold``; no answer is wrong."""
    answer = extract_answer(response)
    return answer is not None and equivalent(answer, gold)
