"""The items of a subset: read from a folder or the hub, all or a sample, and scored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from lit_prm.data.formats import read_groups
from lit_prm.data.formats.sources import FILES, data_folder
from lit_prm.data.records import Group, Rollout
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.files import ScoringJob
from lit_prm.scoring.scored_files import ScoredGroups, read_scored

HUB = "Qwen/ProcessBench"
SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")


def default_data() -> str:
    """The folder that LIT_PRM_DATA names if it has a subset, else the hub's data set."""
    folder = data_folder()
    stems = [stem for subset in SUBSETS for stem in (f"processbench_{subset}", subset)]
    return str(folder) if folder and file_of(folder, stems) else HUB


def source_of(data: str, subset: str) -> str:
    """The file `processbench_<subset>` or `<subset>` of a folder, in any format we read; a split of a hub data set."""
    folder = Path(data).expanduser()
    if not folder.is_dir():
        return f"{data}:{subset}"
    file = file_of(folder, (f"processbench_{subset}", subset))
    if file is None:
        raise ValueError(
            f"{folder} has no processbench_{subset}.jsonl.gz and no {subset}.jsonl. Name another folder, or "
            f"a hub data set like {HUB}, with --data."
        )
    return str(file)


def file_of(folder: Path, stems: Sequence[str]) -> Path | None:
    """The first file with one of these stems; None if there is none."""
    names = (folder / f"{stem}{suffix}" for stem in stems for suffix in FILES)
    return next((path for path in names if path.is_file()), None)


def sampled(groups: Sequence[Group], limit: int | None, seed: int) -> tuple[Group, ...]:
    """A sample of ``limit`` groups in file order, with the same share of right responses as all groups.

    The files list wrong responses first, so the first N groups would have no right response. The sample has both kinds.
    """
    return tuple(groups[i] for i in chosen_items(groups, limit, seed))


def chosen_items(groups: Sequence[Group], limit: int | None, seed: int) -> list[int]:
    """The indices of the ``sampled`` groups."""
    if limit is None or limit >= len(groups):
        return list(range(len(groups)))
    if limit < 2:
        raise ValueError(f"--limit is {limit}, but a sample holds a wrong and a right response. Use at least 2.")
    rng = np.random.default_rng(seed)
    wrong = np.array([any((r.first_error or 0) >= 0 for r in g.rollouts) for g in groups])
    share = round(limit * float((~wrong).mean()))
    right = min(max(share, 1), limit - 1) if 0 < wrong.sum() < len(wrong) else share
    drawn = [rng.permutation(np.flatnonzero(kind))[:n] for kind, n in ((~wrong, right), (wrong, limit - right))]
    return sorted(int(i) for i in np.concatenate(drawn))


def with_step_numbers(group: Group) -> Group:
    """The group with "Step i: " before each step, counted from 1, as the implicit PRM paper's script scores it."""
    return replace(group, rollouts=tuple(map(_numbered, group.rollouts)))


def _numbered(rollout: Rollout) -> Rollout:
    steps = tuple(f"Step {i}: {step}" for i, step in enumerate(rollout.steps or (), start=1))
    return replace(rollout, response="".join(steps), steps=steps, error_kinds=None) if steps else rollout


@dataclass(frozen=True)
class ItemFilter:
    """Which items of each subset: all or a sample, plain or with the official script's step numbers."""

    limit: int | None = None
    seed: int = 0
    official: bool = False

    def stem(self, subset: str) -> str:
        """The name of the subset's scored file; every choice of items has its own."""
        drawn = "" if self.limit is None else f"-limit{self.limit}-seed{self.seed}"
        return f"{subset}{'-official' if self.official else ''}{drawn}"

    def items(self, data: str, subset: str) -> tuple[Group, ...]:
        """The chosen items of a subset."""
        groups = sampled(read_groups(source_of(data, subset)).groups, self.limit, self.seed)
        return tuple(map(with_step_numbers, groups)) if self.official else groups


def is_folder_of_scores(source: str, subsets: Sequence[str], choice: ItemFilter) -> bool:
    """True if ``source`` is a folder with a scored file of every subset, of the chosen items or of all."""
    return Path(source).is_dir() and all(_scored_file(Path(source), subset, choice) for subset in subsets)


def read_subset(folder: Path, subset: str, choice: ItemFilter) -> ScoredGroups:
    """The chosen items from the scored file of a subset; a file of all items is sampled."""
    file = _scored_file(folder, subset, choice)
    if file is None:
        raise ValueError(f"{folder} has no scored file {subset}.jsonl.gz. Make it: python -m lit_prm score.")
    scored = read_scored(str(file))
    kept = chosen_items(scored.groups, choice.limit, choice.seed)
    return replace(scored, groups=tuple(scored.groups[i] for i in kept), rewards=tuple(scored.rewards[i] for i in kept))


def _scored_file(folder: Path, subset: str, choice: ItemFilter) -> Path | None:
    whole = replace(choice, limit=None)
    return file_of(folder, (choice.stem(subset), whole.stem(subset)))


def score_subset(scorer: Scorer, items: tuple[Group, ...], file: Path) -> ScoredGroups:
    """The items with their rewards, scored into ``file`` unless they are there; a killed run goes on where it was.

    ``file`` must hold these items of this scorer and no others. The labels are those of the items, not of the file.
    """
    job = ScoringJob(scorer, items, file, labels=False)
    if not job.is_finished():
        file.parent.mkdir(parents=True, exist_ok=True)
        scorer.check(items)
        _watch(job)
    return replace(read_scored(str(file)), groups=items)


def _watch(job: ScoringJob) -> None:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(job.out.name.partition(".")[0], total=len(job.groups))
        for groups in job.run():
            bar.update(task, advance=len(groups))
