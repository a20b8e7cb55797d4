"""Aggregates: one score per response from the rewards of its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lit_prm.evaluation.votes import Floats

Aggregate = Callable[[Any, Any], Floats]


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
    none = np.full((*steps.shape[:-1], 1), -np.inf)  # column 0: the score of a response without steps
    column = np.where(valid, np.arange(1, steps.shape[-1] + 1), 0).max(-1, initial=0, keepdims=True)
    return cast(Floats, np.take_along_axis(np.concatenate([none, steps], -1), column, -1)[..., 0])


def product(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The product of sigmoid(step reward): the probability that every step is right.

    Rewards may be negative, so a plain product would give two wrong steps a positive score. The sigmoid reads a reward
    as the log-odds of its step. The product is the exponential of a sum of log-sigmoids; it is 0, and scores tie, when
    the sum is below -745.
    """
    return _where_any(np.exp(-np.logaddexp(0.0, -np.where(valid, steps, np.inf)).sum(-1)), valid)


def mean_probability(steps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """The mean of sigmoid(step reward): of the probabilities that the steps are right, if rewards are log-odds."""
    return mean(np.exp(-np.logaddexp(0.0, -np.where(valid, steps, 0.0))), valid)


AGGREGATES: dict[str, Aggregate] = {
    "min": least, "sum": total, "mean": mean, "last": last, "product": product, "mean-probability": mean_probability,
}  # fmt: skip

"""Functions ``steps`` [..., S], ``valid`` [..., S] -> scores [...]. Values that are not valid are ignored. A response
without a valid step scores -inf: it is selected only if no candidate has a valid step."""


def aggregated(step_rewards: Sequence[float | None]) -> dict[str, float | None]:
    """Score of one response by each aggregate, None without any reward; None in ``step_rewards``: no reward."""
    steps = np.array([[0.0 if x is None else x for x in step_rewards]])  # [1, S]
    valid = np.array([[x is not None for x in step_rewards]], dtype=bool)
    scores = {name: float(aggregate(steps, valid)[0]) for name, aggregate in AGGREGATES.items()}
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}


def refuse_unknown_aggregates(names: Collection[str]) -> None:
    """Raise ValueError unless there is at least one name and all names are aggregates."""
    if not names or not set(names) <= AGGREGATES.keys():
        raise ValueError(f"{list(names)} are not aggregates. Name at least one of {', '.join(AGGREGATES)}.")
