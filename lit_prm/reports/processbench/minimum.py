"""Where the lowest step of a response lies. An outcome reward model has it at the end, not at the error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lit_prm.evaluation.first_error import lowest_share
from lit_prm.reports.processbench.subset import Labels, StepScores


class Minimum(NamedTuple):
    """Shares of responses whose lowest step lies there; equal lowest steps share one. nan if no response counts.

    The fields ``*_chance`` hold the same share for a step drawn at random.
    """

    in_last: float  # in the last step
    in_last_chance: float
    position: float  # mean place from 0, the first step, to 1, the last, of responses with two steps or more
    at_error: float  # among wrong responses: in the first wrong step
    at_error_chance: float


def minimum(scores: StepScores, labels: Labels) -> Minimum:
    """Positions of the lowest step, over the responses in which at least one step has a score."""
    some = scores.valid.any(1)
    share, sizes, error = lowest_share(scores.values, scores.valid)[some], scores.sizes[some], labels.first_error[some]
    rows, last = np.arange(len(sizes)), sizes - 1
    wrong, long = error >= 0, sizes > 1
    place = (share * np.arange(share.shape[1])).sum(1) / np.maximum(last, 1)
    return Minimum(
        in_last=_mean(share[rows, last]),
        in_last_chance=_mean(1 / sizes),
        position=_mean(place[long]),
        at_error=_mean(share[rows[wrong], error[wrong]]),
        at_error_chance=_mean(1 / sizes[wrong]),
    )


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(values.mean()) if len(values) else float("nan")
