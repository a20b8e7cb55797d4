"""Scored rollouts as rows and files: the columns of the paper's data set, and the rewards of each response."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from reprlib import repr as shortened
from typing import Any

from lit_prm.data.formats import group_row
from lit_prm.data.formats.columns import BadRow, Row, items, maybe_label, parallel, whole
from lit_prm.data.formats.layouts import PaperRollouts
from lit_prm.data.formats.sources import open_source
from lit_prm.data.records import Group
from lit_prm.evaluation.aggregates import aggregated
from lit_prm.scoring.rewards import Rewards, Span
from lit_prm.scoring.spec import KnownAggregate
from lit_prm.storage.schemas import fitting

Identity = Mapping[str, Any]  # what made the scores: policy, reference, beta, template, step rule, aggregate


@dataclass(frozen=True, slots=True)
class ScoredGroups:
    """The content of a scored file: ``rewards[g][k]`` belong to the k-th response of the g-th group.

    ``identity`` is that of the scorer. A file holds the scores of one scorer.
    """

    source: str
    groups: tuple[Group, ...]
    rewards: tuple[tuple[Rewards, ...], ...]
    identity: Identity


def scored_row(group: Group, rewards: Sequence[Rewards], identity: Identity) -> dict[str, Any]:
    """The row of one problem with its K responses and their rewards.

    Every added column except ``scorer`` has K entries. Readers of plain rollouts ignore the added columns.
    """
    if len(rewards) != len(group.rollouts):
        raise ValueError(
            f"Problem {group.problem.id} has {len(rewards)} rewards for {len(group.rollouts)} responses. Give one of "
            "each per response."
        )
    return {
        **group_row(group),
        "scorer": dict(identity),
        "scores": [aggregated(r.step_rewards) for r in rewards],
        **{column: [getattr(r, name) for r in rewards] for column, name in _COLUMNS.items()},
    }


_NEEDED = {"scorer", "rewards", "step_rewards", "step_spans"}
_COLUMNS = {  # of the file, and the fields of Rewards that they hold
    "rewards": "reward", "step_rewards": "step_rewards", "step_values": "step_values", "step_spans": "step_spans",
    "reference_logps": "reference_logps", "token_rewards": "token_rewards", "token_spans": "token_spans",
    "response_tokens": "tokens", "truncated": "truncated",
}  # fmt: skip


def read_scored(source: str) -> ScoredGroups:
    """The groups and rewards of a scored file. Raises ValueError for rows of two scorers or without scores."""
    table = open_source(source)
    groups, rewards, identity = list[Group](), list[tuple[Rewards, ...]](), None
    for place, row in table.rows:
        try:
            group, of_group, scorer = _read_row(row, len(groups))
            if identity is not None and scorer != identity:
                raise BadRow(f"the row's scorer {scorer} is not that of the rows before. Keep one file per scorer.")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        identity = scorer
        groups.append(group)
        rewards.append(of_group)
    if identity is None:
        raise ValueError(f"{source} holds no row. Score some rollouts first: python -m lit_prm score.")
    return ScoredGroups(source, tuple(groups), tuple(rewards), identity)


def shortfalls(rewards: Sequence[Sequence[Rewards]]) -> list[str]:
    """What a reader of scores has to know, a line each: numbers of cut responses and of what has no reward."""
    every = [reward for of_group in rewards for reward in of_group]
    cut = [reward for reward in every if reward.truncated]
    steps = sum(x is None for reward in every for x in reward.step_rewards)
    unknown = [reward for reward in every if reward.lacks_numbers]
    return [
        *([f"{len(cut)} of {len(every)} responses are longer than max_length and scored up to there"] if cut else ()),
        *([f"{steps} of {sum(len(r.step_rewards) for r in every)} steps have no reward"] if steps else ()),
        *([f"{len(unknown)} of {len(every)} responses have rewards that are no numbers: null"] if unknown else ()),
    ]


def is_scored(source: str) -> bool:
    """True if the first row of a source has rewards beside its responses."""
    _, row = next(open_source(source).rows, ("", BadRow("empty")))
    return not isinstance(row, BadRow) and row.keys() >= _NEEDED


def aligned(first: ScoredGroups, other: ScoredGroups) -> ScoredGroups:
    """The rewards of ``other`` for the groups of ``first``. Raises ValueError for other problems or responses."""
    for one in (first, other):
        if len({g.problem.id for g in one.groups}) != len(one.groups):
            raise ValueError(f"{one.source}: two rows have the same unique_id. Give each problem one row.")
    others = {g.problem.id: (g, r) for g, r in zip(other.groups, other.rewards, strict=True)}
    if unpaired := sorted({g.problem.id for g in first.groups} ^ others.keys()):
        raise ValueError(
            f"{first.source} and {other.source} have different problems: {len(unpaired)} are in one of them only, e.g. "
            f"{unpaired[0]!r}. Score the same candidate file with both scorers."
        )
    rewards = (_matched(group, *others[group.problem.id], first.source, other.source) for group in first.groups)
    return replace(other, groups=first.groups, rewards=tuple(rewards))


def _matched(group: Group, other: Group, rewards: Sequence[Rewards], first: str, second: str) -> tuple[Rewards, ...]:
    """Rewards of the responses of ``other``, in the order of the equal responses (text and label) of ``group``."""
    waiting: dict[tuple[str, bool | None], list[Rewards]] = defaultdict(list)
    for rollout, reward in zip(other.rollouts, rewards, strict=True):
        waiting[rollout.response, rollout.correct].append(reward)
    keys = [(r.response, r.correct) for r in group.rollouts]
    if sorted(keys, key=repr) != sorted(((r.response, r.correct) for r in other.rollouts), key=repr):
        raise ValueError(
            f"Problem {group.problem.id} has other responses or labels in {second} than in {first}. Score the same "
            "candidate file with both scorers."
        )
    return tuple(waiting[key].pop(0) for key in keys)


def _read_row(row: Row | BadRow, number: int) -> tuple[Group, tuple[Rewards, ...], Identity]:
    if isinstance(row, BadRow):
        raise row
    for column in sorted(_NEEDED):
        if row.get(column) is None:
            raise BadRow(f"column {column!r} is missing, so the file is not scored. Run python -m lit_prm score on it.")
    group = PaperRollouts().read(row)
    if not group.problem.id:
        raise BadRow(f"row {number} has no unique_id. Write the file with python -m lit_prm score.")
    columns = {name: parallel(row, name, group.rollouts) for name in _COLUMNS}
    each = enumerate(group.rollouts)
    rewards = tuple(_rewards(i, r.response, {name: columns[name][i] for name in columns}) for i, r in each)
    scorer: Identity = row["scorer"]
    fitting(scorer, _ScorerFacts, "column 'scorer'", "score the file again")
    return group, rewards, scorer


@dataclass
class _ScorerFacts:
    """What readers take from the identity of a scorer."""

    beta: float | None = None
    aggregate: KnownAggregate | None = None


def _rewards(i: int, response: str, of: Mapping[str, Any]) -> Rewards:
    """The rewards of response ``i``, whose entries of the columns are ``of``."""
    steps, values, reference = of["step_rewards"], of["step_values"], of["reference_logps"]
    try:
        return Rewards(
            reward=_number(of["rewards"]),
            step_spans=_spans(of["step_spans"], response),
            step_rewards=_numbers(steps),
            step_values=_numbers(steps if values is None else values),
            tokens=_count(of["response_tokens"] or 0),
            truncated=bool(maybe_label(of["truncated"], "truncated")),
            reference_logps=None if reference is None else _numbers(reference),
            token_spans=_spans(of["token_spans"] or (), response),
            token_rewards=_numbers(items(of["token_rewards"] or (), f"token_rewards[{i}]")),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRow(f"rewards of response {i} cannot be read ({error}). Score the file again.") from None


def _spans(value: Any, response: str) -> tuple[Span, ...]:
    """Pairs of characters [start, end) of the response. Raises ValueError for others."""
    spans = tuple((_count(start), _count(end)) for start, end in value)
    if outside := [span for span in spans if not span[0] <= span[1] <= len(response)]:
        raise ValueError(f"the span {shortened(outside[0])} is none of a text of {len(response)} characters")
    return spans


def _count(value: Any) -> int:
    number = whole(value)
    if number is None or number < 0:
        raise ValueError(f"{shortened(value)} is no whole number from 0")
    return number


def _numbers(value: Any) -> tuple[float | None, ...]:
    return tuple(map(_number, value))


def _number(value: Any) -> float | None:
    """A finite number; None for null, nan and infinities, by which responses cannot be ordered."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shortened(value)} is no number")
    return float(value) if math.isfinite(value) else None
