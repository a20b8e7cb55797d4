"""The items of a subset: from a folder or the hub, a sample of them, in the official script's dress if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lit_prm.data.formats import read_groups
from lit_prm.data.formats.sources import FILES, data_folder
from lit_prm.data.records import Group, Rollout

HUB = "Qwen/ProcessBench"
SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")


def default_data() -> str:
    """The folder that LIT_PRM_DATA names if it has a subset, else the hub's data set."""
    folder = data_folder()
    stems = [stem for subset in SUBSETS for stem in (f"processbench_{subset}", subset)]
    return str(folder) if folder and file_of(folder, stems) else HUB


def source_of(data: str, subset: str) -> str:
    """`processbench_<subset>` or `<subset>` in a folder, with the suffix of any file we read; a split of a hub name."""
    folder = Path(data).expanduser()
    if not folder.is_dir():
        return f"{data}:{subset}"
    found = file_of(folder, (f"processbench_{subset}", subset))
    if found is None:
        raise ValueError(
            f"{folder} has no processbench_{subset}.jsonl.gz and no {subset}.jsonl; name another folder, "
            f"or a hub data set as {HUB}, with --data"
        )
    return str(found)


def file_of(folder: Path, stems: Sequence[str]) -> Path | None:
    """The first file of these stems that is there."""
    names = (folder / f"{stem}{suffix}" for stem in stems for suffix in FILES)
    return next((path for path in names if path.is_file()), None)


def read_items(data: str, subset: str) -> tuple[Group, ...]:
    """Every item of a subset."""
    return read_groups(source_of(data, subset)).groups


def sampled(groups: Sequence[Group], limit: int | None, seed: int) -> tuple[Group, ...]:
    """``limit`` of the groups in file order, drawn by ``seed``, with the share of right responses that the file has.

    Files come sorted, wrong responses first: the first N would have none that is right. Both kinds are kept.
    """
    return tuple(groups[i] for i in chosen_items(groups, limit, seed))


def chosen_items(groups: Sequence[Group], limit: int | None, seed: int) -> list[int]:
    """The places of the ``sampled`` groups."""
    if limit is None or limit >= len(groups):
        return list(range(len(groups)))
    if limit < 2:
        raise ValueError(f"limit {limit}: a sample holds a wrong and a right response; use at least 2")
    rng = np.random.default_rng(seed)
    wrong = np.array([any((r.first_error or 0) >= 0 for r in g.rollouts) for g in groups])
    share = round(limit * float((~wrong).mean()))
    right = min(max(share, 1), limit - 1) if 0 < wrong.sum() < len(wrong) else share
    drawn = [rng.permutation(np.flatnonzero(kind))[:n] for kind, n in ((~wrong, right), (wrong, limit - right))]
    return sorted(int(i) for i in np.concatenate(drawn))


def with_step_numbers(group: Group) -> Group:
    """Every step behind "Step i: ", counted from 1, as the script of the implicit PRM paper scores them."""
    return replace(group, rollouts=tuple(map(_numbered, group.rollouts)))


def _numbered(rollout: Rollout) -> Rollout:
    steps = tuple(f"Step {i}: {step}" for i, step in enumerate(rollout.steps or (), start=1))
    return replace(rollout, response="".join(steps), steps=steps) if steps else rollout
