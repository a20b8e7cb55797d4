"""Scored rollouts as rows and files: the paper's columns, and beside each response what a scorer says of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lit_prm.data.formats import group_row
from lit_prm.data.formats.columns import BadRow, Row, items, needed, parallel
from lit_prm.data.formats.layouts import PaperRollouts
from lit_prm.data.formats.sources import open_source
from lit_prm.data.records import Group
from lit_prm.evaluation.aggregates import aggregated
from lit_prm.scoring.rewards import Rewards, Span

__all__ = ["ScoredGroups", "aligned", "is_scored", "read_scored", "scored_row"]

Identity = Mapping[str, Any]  # what made the scores: policy, reference, beta, template, step rule, aggregate


@dataclass(frozen=True, slots=True)
class ScoredGroups:
    """What a scored file holds: ``rewards[g][k]`` are those of the k-th response of the g-th group.

    ``identity`` is that of the scorer; a file holds the scores of one scorer.
    """

    source: str
    groups: tuple[Group, ...]
    rewards: tuple[tuple[Rewards, ...], ...]
    identity: Identity


def scored_row(group: Group, rewards: Sequence[Rewards], identity: Identity) -> dict[str, Any]:
    """One problem with its K responses and their rewards; every added column but ``scorer`` has K entries.

    A reader of rollouts reads it too, and finds the responses.
    """
    if len(rewards) != len(group.rollouts):
        raise ValueError(f"problem {group.problem.id}: {len(rewards)} rewards for {len(group.rollouts)} responses")
    return {
        **group_row(group),
        "scorer": dict(identity),
        "scores": [aggregated(r.step_rewards) for r in rewards],
        "rewards": [r.reward for r in rewards],
        "step_rewards": [list(r.step_rewards) for r in rewards],
        "step_values": [list(r.step_values) for r in rewards],
        "step_spans": [[list(s) for s in r.step_spans] for r in rewards],
        "reference_logps": [None if r.reference_logps is None else list(r.reference_logps) for r in rewards],
        "token_rewards": [list(r.token_rewards) for r in rewards],
        "token_spans": [[list(s) for s in r.token_spans] for r in rewards],
        "response_tokens": [r.tokens for r in rewards],
        "truncated": [r.truncated for r in rewards],
    }


def read_scored(source: str) -> ScoredGroups:
    """The groups and rewards of a scored file; rows of two scorers and rows without scores are refused."""
    table = open_source(source)
    groups, rewards, identity = list[Group](), list[tuple[Rewards, ...]](), None
    for place, row in table.rows:
        try:
            group, of_group, made_by = _read_row(row, len(groups))
            if identity is not None and made_by != identity:
                raise BadRow(f"the row's scorer {made_by} is not that of the rows before it; keep one file per scorer")
        except BadRow as error:
            raise ValueError(f"{place}: {error}") from None
        identity = made_by
        groups.append(group)
        rewards.append(of_group)
    if identity is None:
        raise ValueError(f"{source}: holds no row; score some rollouts first: python -m lit_prm score")
    return ScoredGroups(source, tuple(groups), tuple(rewards), identity)


def is_scored(source: str) -> bool:
    """Whether the first row of a source has rewards beside its responses."""
    _, row = next(open_source(source).rows, ("", BadRow("empty")))
    return not isinstance(row, BadRow) and row.keys() >= _NEEDED


_NEEDED = {"scorer", "rewards", "step_rewards", "step_spans"}


def aligned(first: ScoredGroups, other: ScoredGroups) -> ScoredGroups:
    """What the scorer of ``other`` says of the groups of ``first``, matched by problem id and response text.

    Files of other problems or responses are refused.
    """
    for one in (first, other):
        if len({g.problem.id for g in one.groups}) != len(one.groups):
            raise ValueError(f"{one.source}: two rows have the same unique_id; give each problem one row")
    theirs = {g.problem.id: (g, r) for g, r in zip(other.groups, other.rewards, strict=True)}
    if odd := sorted({g.problem.id for g in first.groups} ^ theirs.keys()):
        raise ValueError(
            f"{first.source} and {other.source} have different problems: {len(odd)} stand in one of them only, as "
            f"{odd[0]!r}; score the same candidate file with both scorers"
        )
    rewards = (_matched(group, *theirs[group.problem.id], first.source, other.source) for group in first.groups)
    return replace(other, groups=first.groups, rewards=tuple(rewards))


def _matched(group: Group, other: Group, rewards: Sequence[Rewards], ours: str, theirs: str) -> tuple[Rewards, ...]:
    """Rewards of the responses of ``other``, one for each equal response (text and label) of ``group``."""
    waiting: dict[tuple[str, bool | None], list[Rewards]] = defaultdict(list)
    for rollout, reward in zip(other.rollouts, rewards, strict=True):
        waiting[rollout.response, rollout.correct].append(reward)
    keys = [(r.response, r.correct) for r in group.rollouts]
    if sorted(keys, key=repr) != sorted(((r.response, r.correct) for r in other.rollouts), key=repr):
        raise ValueError(
            f"problem {group.problem.id}: its responses or their labels in {theirs} are not those in {ours}; score the "
            "same candidate file with both scorers"
        )
    return tuple(waiting[key].pop(0) for key in keys)


def _read_row(row: Row | BadRow, number: int) -> tuple[Group, tuple[Rewards, ...], Identity]:
    if isinstance(row, BadRow):
        raise row
    for column in sorted(_NEEDED):
        if row.get(column) is None:
            raise BadRow(f"column {column!r} is missing, so the file is not scored; run python -m lit_prm score on it")
    group = PaperRollouts().read(row)
    if not group.problem.id:
        raise BadRow(f"row {number} has no unique_id; write the file with python -m lit_prm score")
    names = ("rewards", "step_spans", "step_rewards", "step_values", "response_tokens", "truncated",
             "reference_logps", "token_spans", "token_rewards")  # fmt: skip
    columns = [parallel(row, name, group.rollouts) for name in names]
    made = tuple(_rewards(i, *values) for i, values in enumerate(zip(*columns, strict=True)))
    return group, made, needed(row, "scorer")


def _rewards(
    i: int, reward: Any, spans: Any, steps: Any, values: Any, tokens: Any, truncated: Any, reference: Any,
    token_spans: Any, token_rewards: Any,
) -> Rewards:  # fmt: skip
    try:
        return Rewards(
            reward=_number(reward),
            step_spans=_spans(spans),
            step_rewards=_numbers(steps),
            step_values=_numbers(steps if values is None else values),
            tokens=int(tokens or 0),
            truncated=bool(truncated),
            reference_logps=None if reference is None else _numbers(reference),
            token_spans=_spans(token_spans or ()),
            token_rewards=tuple(_number(x) for x in items(token_rewards or (), f"token_rewards[{i}]")),
        )
    except (TypeError, ValueError) as error:
        raise BadRow(f"rewards of response {i} cannot be read ({error}); score the file again") from None


def _spans(value: Any) -> tuple[Span, ...]:
    return tuple((int(start), int(end)) for start, end in value)


def _numbers(value: Any) -> tuple[float | None, ...]:
    return tuple(None if x is None else _number(x) for x in value)


def _number(value: Any) -> float:
    """Finite: nan and infinity have no place in an order of responses."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no finite number")
    return number
