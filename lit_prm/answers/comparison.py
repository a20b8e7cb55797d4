"""Compares a candidate with the gold answer, or two candidates: as text, as numbers, or symbolically."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from lit_prm.answers.extraction import extract_answer
from lit_prm.answers.normal import LONGEST, WORDS, normalise, number
from lit_prm.answers.verdict_cache import symbolically_equal

_BASE = re.compile(r"(\d[\dA-F]*)_(?:(\d+)|\{(\d+)\})")  # 1101_2; in x_1 and \log_2 a letter stands before it
_NEGATED = re.compile(r"-\d*[A-Za-z]=[^=]+")  # -x = 12
_LETTER = re.compile(r"[A-J]")
_OPTION = re.compile(r"(?:\(([A-J])\)|([A-J])[.:)])([^-+*/^=,].*)")  # (C) 14, E: the third one
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?:([ap])\.?m\.?)?", re.IGNORECASE)
_RATIO = re.compile(r"\d{1,9}(?::\d{1,9})+")

Pair = tuple[str, str]


def matches(gold: str, candidate: str, timeout: float = 3.0) -> bool:
    r"""Whether the candidate is right if ``gold`` is the right answer. The order matters; never raises.

    They are compared as text, as exact numbers, clock times, ratios or options, else by math-verify in a worker
    process. ``x + y = 0`` is right for the gold answer 0, but 0 is not right for the plane ``x + y = 0``. Words and
    very long answers are equal only as text. Numbers with different bases, or with and without a base, differ. A
    comparison that takes more than ``timeout`` seconds or crashes is False, and ``counted()`` counts it.
    """
    return all_match([(gold, candidate)], timeout)[0]


def all_match(pairs: Sequence[Pair], timeout: float = 3.0) -> list[bool]:
    """``matches`` of every pair (gold, candidate); many pairs are compared on all cores."""
    equal: list[bool] = []
    unsettled: dict[Pair, list[int]] = {}
    for row, (gold, candidate) in enumerate(pairs):
        wanted, given = _same_kind(normalise(gold), normalise(candidate))
        settled = _settled(wanted, given)
        equal.append(settled or False)
        if settled is None:
            unsettled.setdefault((_BASE.sub(r"\1", wanted), _BASE.sub(r"\1", given)), []).append(row)
    verdicts = symbolically_equal(list(unsettled), timeout) if unsettled else []
    for rows, verdict in zip(unsettled.values(), verdicts, strict=True):
        for row in rows:
            equal[row] = verdict
    return equal


def equivalent(a: str, b: str, timeout: float = 3.0) -> bool:
    """Whether two candidates are equal: each matches the other as gold answer. Symmetric; never raises."""
    return all_equivalent([(a, b)], timeout)[0]


def all_equivalent(pairs: Sequence[Pair], timeout: float = 3.0) -> list[bool]:
    """``equivalent`` of every pair; the second direction is compared only where the first is equal."""
    pairs = [min(pair, pair[::-1]) for pair in pairs]
    equal = all_match(pairs, timeout)
    rows = [row for row, same in enumerate(equal) if same]
    for row, same in zip(rows, all_match([pairs[row][::-1] for row in rows], timeout), strict=True):
        equal[row] = same
    return equal


def _same_kind(gold: str, candidate: str) -> Pair:
    """The letters of two options, of ``(C) 14`` and ``C``; the texts of the same option, of ``(C) 14`` and ``14``."""
    answers = gold, candidate
    options = [_OPTION.fullmatch(answer) for answer in answers]
    if not any(options):
        return gold, candidate
    letters = [(o[1] or o[2]) if o else _LETTER.fullmatch(x) and x for o, x in zip(options, answers, strict=True)]
    if all(letters) and not (all(options) and letters[0] == letters[1]):
        return str(letters[0]), str(letters[1])
    first, second = (normalise(o[3]) if o else answer for o, answer in zip(options, answers, strict=True))
    return first, second


def _settled(gold: str, candidate: str) -> bool | None:
    """Equality of two normalised answers without symbols; None if it needs a symbolic comparison."""
    if gold == candidate:
        return True
    if max(len(gold), len(candidate)) > LONGEST or _bases(gold) != _bases(candidate):
        return False
    gold, candidate = (_BASE.sub(r"\1", x) for x in (gold, candidate))
    if gold == candidate:
        return True
    if number(gold) is not None and number(candidate) is not None:
        return number(gold) == number(candidate)
    if _CLOCK.fullmatch(gold) or _CLOCK.fullmatch(candidate):
        return _same_time(gold, candidate)
    if _RATIO.fullmatch(gold) and _RATIO.fullmatch(candidate):
        return _shares(gold) == _shares(candidate)
    if _LETTER.fullmatch(gold) and _LETTER.fullmatch(candidate):
        return False
    if any(_NEGATED.fullmatch(x) and "=" not in y for x, y in ((gold, candidate), (candidate, gold))):
        return False
    return False if any(not x or WORDS.fullmatch(x) for x in (gold, candidate)) else None


def _bases(answer: str) -> list[str]:
    """Bases that the answer writes behind its numbers, in order."""
    return [plain or braced for _, plain, braced in _BASE.findall(answer)]


def _same_time(*answers: str) -> bool:
    """Whether both are clock times, of the same minute; a time without am or pm may be either."""
    times = [_CLOCK.fullmatch(answer) for answer in answers]
    hours, halves = zip(*((int(t[1]), (t[4] or "").lower()) for t in times if t), strict=True)
    if len(hours) < 2 or len({(t[2], t[3] or "00") for t in times if t}) > 1:
        return False
    if "" not in halves:
        return (hours[0] % 12, halves[0]) == (hours[1] % 12, halves[1])
    full = {h % 12 + 12 * (half == "p") if half else h for h, half in zip(hours, halves, strict=True)}
    return len(set(hours)) == 1 or len(full) == 1


def _shares(ratio: str) -> list[Fraction]:
    """Parts of a ratio as shares of the whole: 2:4 is 1:2."""
    parts = [int(part) for part in ratio.split(":")]
    return [Fraction(part, sum(parts) or 1) for part in parts]


def is_correct(response: str, gold: str) -> bool:
    """Whether the response states an answer that matches ``gold``; False if it states none."""
    answer = extract_answer(response)
    return answer is not None and matches(gold, answer)
