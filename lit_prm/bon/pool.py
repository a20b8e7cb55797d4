"""Candidates as files hold them: labelled groups, and what the scorer of every file says of each response."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_prm.candidates import refuse_unfit
from lit_prm.formats import read_groups
from lit_prm.formats.scored import ScoredGroups, is_scored, read_scored
from lit_prm.formats.sources import FILES
from lit_prm.records import Group
from lit_prm.scored import Rewards


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one scorer says of every response of a pool: ``rewards[g][k]`` of the k-th of the g-th group."""

    name: str
    identity: Mapping[str, Any]
    rewards: tuple[tuple[Rewards, ...], ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """Groups whose responses are all labelled, and no, one or several opinions on them."""

    name: str
    sources: tuple[str, ...]
    groups: tuple[Group, ...]
    opinions: tuple[Opinion, ...]


def read_pool(sources: Sequence[str]) -> Pool:
    """One candidate file, scored or not, or several scored ones of the same candidates in any order."""
    scored = [is_scored(source) for source in sources]
    if not any(scored) and len(sources) == 1:
        groups = read_groups(sources[0]).groups
        name, opinions = _names(sources)[0], list[Opinion]()
    else:
        if not all(scored):
            bare = sources[scored.index(False)]
            raise ValueError(
                f"{bare}: holds no scores, and several files are compared by theirs; score it first "
                "(python -m lit_prm score) or give it alone"
            )
        files = [read_scored(source) for source in sources]
        groups, name = files[0].groups, "-".join(names := _names(sources))
        opinions = [Opinion(n, f.identity, _aligned(files[0], f)) for n, f in zip(names, files, strict=True)]
    refuse_unfit(name, groups)
    return Pool(name, tuple(sources), groups, tuple(opinions))


def _names(sources: Sequence[str]) -> list[str]:
    """A short name for each source, no two alike, without a slash."""
    names = list[str]()
    for source in sources:
        ending = next((e for e in sorted(FILES, key=len, reverse=True) if source.endswith(e)), "")
        name = re.sub(r"[^\w.+-]+", "-", Path(source.removesuffix(ending)).name)
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


def _aligned(first: ScoredGroups, other: ScoredGroups) -> tuple[tuple[Rewards, ...], ...]:
    """The rewards of ``other`` in the order of ``first``, matched by problem id and response text."""
    theirs = {g.problem.id: (g, r) for g, r in zip(other.groups, other.rewards, strict=True)}
    ours = {g.problem.id for g in first.groups}
    if len(theirs) != len(other.groups):
        raise ValueError(f"{other.source}: two rows have the same unique_id; give each problem one row")
    if odd := sorted(ours ^ theirs.keys()):
        raise ValueError(
            f"{first.source} and {other.source} have different problems: {len(odd)} stand in one of them only, as "
            f"{odd[0]!r}; score the same candidate file with both scorers"
        )
    return tuple(_matched(group, *theirs[group.problem.id], first.source, other.source) for group in first.groups)


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
