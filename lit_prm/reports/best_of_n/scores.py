"""From what a scorer says of responses to one number for each, by every rule that can choose with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_prm.data.records import Group
from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.discrimination import Floats, Scored
from lit_prm.evaluation.evaluate import scores_of
from lit_prm.reports.best_of_n.pool import Opinion
from lit_prm.reports.run_tables import VALUE_LAST

TRAINED = (*AGGREGATES, VALUE_LAST)  # scores made of what a scorer says; the others need none


class ResponseLengths(NamedTuple):
    """Length of every response, [R], and what was counted."""

    values: Floats
    unit: str


def lengths(groups: Sequence[Group], opinion: Opinion | None) -> ResponseLengths:
    """Response tokens where the scorer counted them, characters otherwise."""
    tokens = [r.tokens for of_group in opinion.rewards for r in of_group] if opinion else []
    if any(tokens):
        return ResponseLengths(np.array(tokens, dtype=float), "tokens")
    return ResponseLengths(np.array([len(r.response) for g in groups for r in g.rollouts], dtype=float), "characters")


def heard(opinion: Opinion) -> Scored:
    """An opinion as arrays, one row for each of the R responses; a reference that was not asked for all is none."""
    rewards = [r for of_group in opinion.rewards for r in of_group]
    steps, valid = padded(r.step_rewards for r in rewards)
    known = all(r.reference_logps is not None for r in rewards)
    reference, scored = padded((r.reference_logps or ()) if known else () for r in rewards)
    return Scored(np.array([r.reward for r in rewards]), steps, valid, reference, scored)


def padded(rows: Iterable[Sequence[float | None]]) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows as [R, S] values and where there is one."""
    given = list(rows)
    width = max((len(row) for row in given), default=0)
    wide = [[*row, *[None] * (width - len(row))] for row in given]
    valid = np.array([[x is not None for x in row] for row in wide], dtype=bool).reshape(len(given), width)
    values = np.array([[0.0 if x is None else x for x in row] for row in wide]).reshape(len(given), width)
    return values, valid


def scores_by(opinion: Opinion, length: ResponseLengths, primary: str) -> dict[str, Floats]:
    """[R] of every rule, the primary aggregate first; the value of the last prefix where there are values."""
    order = [primary, *(name for name in AGGREGATES if name != primary)]
    scores = scores_of(heard(opinion), np.maximum(length.values, 1), order)
    if length.unit != "tokens":
        scores.pop("reference-per-token", None)
    values, valid = padded(r.step_values for of_group in opinion.rewards for r in of_group)
    last = {VALUE_LAST: AGGREGATES["last"](values, valid)} if valid.any() else {}
    trained = {name: scores.pop(name) for name in order}
    return trained | last | scores
