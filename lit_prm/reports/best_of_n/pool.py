"""Candidates and their rewards read from files, and one score for each response by every rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_prm.data.formats import read_groups
from lit_prm.data.formats.sources import bare
from lit_prm.data.records import Group
from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.candidates import refuse_unfit
from lit_prm.evaluation.discrimination import Floats, Scored
from lit_prm.evaluation.evaluate import scores_of
from lit_prm.reports.run_tables import VALUE_LAST
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import aligned, is_scored, read_scored, shortfalls


@dataclass(frozen=True, slots=True)
class Opinion:
    """The rewards of one scorer: ``rewards[g][k]`` is that of response k of group g."""

    name: str
    identity: Mapping[str, Any]
    rewards: tuple[tuple[Rewards, ...], ...]


@dataclass(frozen=True, slots=True)
class CandidatePool:
    """Groups whose responses are all labelled, and the opinions of zero or more scorers on them."""

    name: str
    sources: tuple[str, ...]
    groups: tuple[Group, ...]
    opinions: tuple[Opinion, ...]

    def shortfalls(self) -> dict[str, list[str]]:
        """Scorer -> what its readers have to know: cut responses, missing rewards."""
        return {opinion.name: shortfalls(opinion.rewards) for opinion in self.opinions}


def read_pool(sources: Sequence[str]) -> CandidatePool:
    """Read one candidate file, scored or not, or several scored files of the same candidates in any order."""
    scored = [is_scored(source) for source in sources]
    if not any(scored) and len(sources) == 1:
        groups = read_groups(sources[0]).groups
        name, opinions = _names(sources)[0], list[Opinion]()
    else:
        if not all(scored):
            raise ValueError(
                f"{sources[scored.index(False)]}: holds no scores, but several files are compared by their scores; "
                "score it first (python -m lit_prm score) or give it alone"
            )
        files = [read_scored(source) for source in sources]
        groups, name = files[0].groups, "-".join(names := _names(sources))
        opinions = [Opinion(n, f.identity, aligned(files[0], f).rewards) for n, f in zip(names, files, strict=True)]
    refuse_unfit(name, groups)
    return CandidatePool(name, tuple(sources), groups, tuple(opinions))


def _names(sources: Sequence[str]) -> list[str]:
    """A short name for each source, no two alike, without a slash."""
    names = list[str]()
    for source in sources:
        name = re.sub(r"[^\w.+-]+", "-", bare(source))
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


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
    return Scored(rewards_of(opinion), steps, valid, reference, scored)


def rewards_of(opinion: Opinion) -> Floats:
    """The reward of every response, [R]; -inf for a response without one, so that it is chosen last."""
    rewards = [r.reward for of_group in opinion.rewards for r in of_group]
    return np.array([-np.inf if reward is None else reward for reward in rewards])


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
