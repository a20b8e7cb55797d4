"""Candidates read from files: labelled groups, and the rewards that the scorer of every file gave each response."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_prm.data.formats import read_groups
from lit_prm.data.formats.sources import bare
from lit_prm.data.records import Group
from lit_prm.evaluation.candidates import refuse_unfit
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import aligned, is_scored, read_scored


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
