"""Scored items of a subset: read from a folder, or scored once and kept there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from lit_prm.data.records import Group
from lit_prm.reports.processbench.items import chosen_items, file_of, read_items, sampled, with_step_numbers
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.files import ScoringJob
from lit_prm.scoring.scored_files import ScoredGroups, read_scored


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
        groups = sampled(read_items(data, subset), self.limit, self.seed)
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
