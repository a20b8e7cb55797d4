"""Groups of equal answers, for votes that know no gold one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from lit_prm.answers.comparison import all_equivalent
from lit_prm.answers.normal import normalise, number


def cluster(answers: Sequence[str | None]) -> list[int]:
    """[K] the group of each answer: ids in order of first appearance, -1 for no answer.

    Answers of a group are equivalent in pairs: only answers are compared, the gold one is not an input. Equivalence is
    not transitive (math-verify reads ``x + y = 0`` as ``0``, but not as ``x = 0``): the shorter spelling is placed
    first, so which answers share a group does not depend on their order. Repeats, and numbers among themselves,
    never reach the symbolic comparison.
    """
    texts = [None if answer is None else normalise(answer) for answer in answers]
    group = _groups({text for text in texts if text is not None})
    ids: dict[int, int] = {}
    return [-1 if text is None else ids.setdefault(group[text], len(ids)) for text in texts]


def _groups(texts: Collection[str]) -> dict[str, int]:
    """The number of the group of each normalised answer."""
    numbers: dict[Fraction | str, int] = {}  # of every value and every other text
    groups: list[list[str]] = []
    found: dict[str, int] = {}
    for text in sorted(texts, key=lambda t: (len(t), t)):
        value = number(text)
        key = text if value is None else value
        if key not in numbers:
            numbers[key] = _fitting(text, groups)
            if numbers[key] == len(groups):
                groups.append([])
            groups[numbers[key]].append(text)
        found[text] = numbers[key]
    return found


def _fitting(text: str, groups: Sequence[Sequence[str]]) -> int:
    """The first group all of whose members the text is equivalent to; the number of groups if there is none."""
    equal = all_equivalent([(members[0], text) for members in groups])
    fitting = (i for i, same in enumerate(equal) if same)
    return next((i for i in fitting if all(all_equivalent([(m, text) for m in groups[i][1:]]))), len(groups))
