"""One score for each response by every rule that can choose a response with it."""

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

TRAINED = (*AGGREGATES, VALUE_LAST)  # scores made of rewards; the other ones need no scorer


class ResponseLengths(NamedTuple):
    """Length of every response, [R], and its unit: tokens or characters."""

    values: Floats
    unit: str


def lengths(groups: Sequence[Group], opinion: Opinion | None) -> ResponseLengths:
    """Response tokens where the scorer counted them, characters otherwise."""
    tokens = [r.tokens for of_group in opinion.rewards for r in of_group] if opinion else []
    if any(tokens):
        return ResponseLengths(np.array(tokens, dtype=float), "tokens")
    return ResponseLengths(np.array([len(r.response) for g in groups for r in g.rollouts], dtype=float), "characters")


def as_arrays(opinion: Opinion) -> Scored:
    """An opinion as arrays, a row for each of the R responses; the reference counts only if all responses have it."""
    rewards = [r for of_group in opinion.rewards for r in of_group]
    steps, valid = padded(r.step_rewards for r in rewards)
    complete = all(r.reference_logps is not None for r in rewards)
    reference, scored = padded((r.reference_logps or ()) if complete else () for r in rewards)
    return Scored(np.array([r.reward for r in rewards]), steps, valid, reference, scored)


def padded(rows: Iterable[Sequence[float | None]]) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows of unequal length as values [R, S], 0 where missing, and the mask of those present."""
    lists = list(rows)
    width = max((len(row) for row in lists), default=0)
    wide = [[*row, *[None] * (width - len(row))] for row in lists]
    valid = np.array([[x is not None for x in row] for row in wide], dtype=bool).reshape(len(lists), width)
    values = np.array([[0.0 if x is None else x for x in row] for row in wide]).reshape(len(lists), width)
    return values, valid


def scores_by(opinion: Opinion, length: ResponseLengths, primary: str) -> dict[str, Floats]:
    """Rule -> scores [R]: the primary aggregate, the other ones, the last prefix value if there is one, others."""
    order = [primary, *(name for name in AGGREGATES if name != primary)]
    scores = scores_of(as_arrays(opinion), np.maximum(length.values, 1), order)
    if length.unit != "tokens":
        scores.pop("reference-per-token", None)
    values, valid = padded(r.step_values for of_group in opinion.rewards for r in of_group)
    last = {VALUE_LAST: AGGREGATES["last"](values, valid)} if valid.any() else {}
    trained = {name: scores.pop(name) for name in order}
    return trained | last | scores
