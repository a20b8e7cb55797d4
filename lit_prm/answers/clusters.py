"""Groups equal answers, for votes that do not see the gold answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from lit_prm.answers.comparison import all_equivalent
from lit_prm.answers.normal import normalise, number


def cluster(answers: Sequence[str | None]) -> list[int]:
    """[K] group of each answer: numbered by first appearance, -1 for no answer.

    All answers of a group are equivalent in pairs. Equivalence is not transitive (math-verify reads ``x + y = 0`` as
    ``0``, but not as ``x = 0``). So the groups are built from the shortest answer to the longest, and do not depend on
    the order of ``answers``. Repeated answers, and pairs of numbers, need no symbolic comparison.
    """
    texts = [None if answer is None else normalise(answer) for answer in answers]
    group = _groups({text for text in texts if text is not None})
    ids: dict[int, int] = {}
    return [-1 if text is None else ids.setdefault(group[text], len(ids)) for text in texts]


def _groups(texts: Collection[str]) -> dict[str, int]:
    """Group number of each normalised answer."""
    numbers: dict[Fraction | str, int] = {}  # group by value of a number or by text
    groups: list[list[str]] = []
    group_of: dict[str, int] = {}
    for text in sorted(texts, key=lambda t: (len(t), t)):
        value = number(text)
        key = text if value is None else value
        if key not in numbers:
            numbers[key] = _fitting(text, groups)
            if numbers[key] == len(groups):
                groups.append([])
            groups[numbers[key]].append(text)
        group_of[text] = numbers[key]
    return group_of


def _fitting(text: str, groups: Sequence[Sequence[str]]) -> int:
    """Index of the first group whose members are all equivalent to the text; the number of groups without one."""
    equal = all_equivalent([(members[0], text) for members in groups])
    fitting = (i for i, same in enumerate(equal) if same)
    return next((i for i in fitting if all(all_equivalent([(m, text) for m in groups[i][1:]]))), len(groups))
