"""Aggregates: one score per response from the rewards of its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lit_prm.evaluation.votes import Floats

Aggregate = Callable[[Any, Any], Floats]


# ---- step rewards -> one score -----------------------------------------------------------------


def _where_any(values: ArrayLike, valid: NDArray[np.bool_]) -> Floats:
    return np.where(valid.any(-1), values, -np.inf)


def least(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The worst step reward."""
    return _where_any(steps.min(-1, where=valid, initial=np.inf), valid)


def total(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The sum of step rewards, which telescopes to the reward of the response."""
    return _where_any(steps.sum(-1, where=valid), valid)


def mean(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The mean step reward."""
    return _where_any(steps.sum(-1, where=valid) / np.maximum(valid.sum(-1), 1), valid)


def last(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The reward of the last valid step."""
    none = np.full((*steps.shape[:-1], 1), -np.inf)  # column 0: what a response without steps gets
    column = np.where(valid, np.arange(1, steps.shape[-1] + 1), 0).max(-1, initial=0, keepdims=True)
    return cast(Floats, np.take_along_axis(np.concatenate([none, steps], -1), column, -1)[..., 0])


def product(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The product of sigmoid(step reward): the chance that every step is right.

    A reward has any sign, so a plain product would reward two wrong steps; the sigmoid reads each as
    the log-odds of its step and makes the product fall with every doubt. Summed as log-sigmoids and
    exponentiated once; it reaches 0, and ties there, when the logs sum to less than -745.
    """
    return _where_any(np.exp(-np.logaddexp(0.0, -np.where(valid, steps, np.inf)).sum(-1)), valid)


AGGREGATES: dict[str, Aggregate] = {"min": least, "sum": total, "mean": mean, "last": last, "product": product}

"""``steps`` [..., S], ``valid`` [..., S] -> scores [...]. Values where not valid are never read; a
response without a valid step scores -inf: it is chosen only when no candidate has a step."""


def aggregated(step_rewards: Sequence[float | None]) -> dict[str, float | None]:
    """One score per aggregate from one response's step rewards, None being no reward; None without any."""
    steps = np.array([[0.0 if x is None else x for x in step_rewards]])  # [1, S]
    valid = np.array([[x is not None for x in step_rewards]], dtype=bool)
    scores = {name: float(aggregate(steps, valid)[0]) for name, aggregate in AGGREGATES.items()}
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}


def refuse_unknown_aggregates(names: Collection[str]) -> None:
    """Raise unless there is a name and every one is known."""
    if not names or not set(names) <= AGGREGATES.keys():
        raise ValueError(f"aggregates {list(names)}: known are {', '.join(AGGREGATES)}; name at least one")
