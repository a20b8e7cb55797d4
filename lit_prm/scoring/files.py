"""Writes scored files chunk by chunk: an interrupted job continues and ends with the bytes of an unbroken one."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from lit_prm.data.formats import group_row
from lit_prm.data.formats.layouts import PaperRollouts
from lit_prm.data.records import Group
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.scored_files import ScoredGroups, read_scored, scored_row
from lit_prm.storage.atomic import alone, clear, written_whole
from lit_prm.storage.moved import with_names_of_today

CHUNK = 120_000  # characters of problems and responses scored between two saves
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """Groups to score into the file ``out``.

    With ``labels`` False, a finished file counts as finished even if its labels differ from the groups': whoever reads
    the file brings labels of their own.
    """

    scorer: Scorer
    groups: Sequence[Group]
    out: Path
    labels: bool = True

    def is_finished(self) -> bool:
        """True if ``out`` holds these scores. Raises ValueError if it holds others."""
        if not self.out.exists():
            return False
        if difference := self._difference(read_scored(str(self.out))):
            raise ValueError(f"{self.out} holds scores {difference}. Give another --out, or move the file away.")
        shutil.rmtree(self.parts, ignore_errors=True)  # left by a job that was killed just after it finished
        return True

    def _difference(self, scored: ScoredGroups) -> str:
        """How a file's scores differ from those of this job; empty if they do not."""
        ours, others = _compared(self.scorer.identity), _compared(scored.identity)
        if keys := sorted(k for k in ours.keys() | others.keys() if ours.get(k) != others.get(k)):
            return f"by another {', '.join(keys)}"
        if self._facts(scored.groups) != self._facts(_as_read(group) for group in self.groups):
            return f"of other problems, responses or steps{', or with other labels' if self.labels else ''}"
        return "of steps without their tokens" if self.scorer.detail == "tokens" and not _has_tokens(scored) else ""

    def _facts(self, groups: Iterable[Group]) -> list[dict[str, Any]]:
        """The rows of the groups without scores, as far as they are compared."""
        rows = [group_row(group) for group in groups]
        return rows if self.labels else [{name: row[name] for name in _UNLABELLED} for row in rows]

    def chunks(self) -> Iterator[tuple[Path, Sequence[Group]]]:
        """The groups of each save, in order, with the file of that part."""
        scored_by = [_compared(self.scorer.identity), self.scorer.detail, list(self.scorer.rounding)]
        for number, (start, end) in enumerate(_cuts([_size(g) for g in self.groups])):
            groups = self.groups[start:end]
            facts = json.dumps([*scored_by, [group_row(group) for group in groups]])
            yield self.parts / f"{number:06d}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.jsonl", groups

    @property
    def parts(self) -> Path:
        """The folder of the parts that are done, until the file is complete."""
        return self.out.with_name(f"{self.out.name}.parts")

    def run(self) -> Iterator[Sequence[Group]]:
        """Score the parts that are not saved yet, then join them into the file; yields the groups of each part."""
        if self.out.suffix == ".parquet":  # before hours are spent on scores that no table can hold
            _table([group_row(group) for group in self.groups])
        with alone(self.parts):
            parts = []
            for part, groups in self.chunks():
                if not part.exists():
                    self._save(part, groups)
                parts.append(part)
                yield groups
            _join(parts, self.out)
            clear(self.parts)

    def _save(self, part: Path, groups: Sequence[Group]) -> None:
        scores = self.scorer.score(groups)
        identity = _recorded(self.scorer.identity)
        rows = [scored_row(g, r, identity) for g, r in zip(groups, scores, strict=True)]
        with written_whole(part) as partial:
            partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def refuse_unfit_name(out: Path) -> None:
    """Raise ValueError unless the name ends in one of the three file types."""
    if not out.name.endswith(SUFFIXES):
        raise ValueError(f"{out}: scores are written as {', '.join(SUFFIXES)}. Change the name.")


_UNLABELLED = ("unique_id", "prompt", "completions", "steps")


def _as_read(group: Group) -> Group:
    """The group after it was written and read again."""
    return PaperRollouts().read(json.loads(json.dumps(group_row(group))))


def _recorded(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as every file type can hold it: plain JSON, with None for an empty object, which Parquet lacks."""

    def recorded(value: Any) -> Any:
        return (_recorded(value) if value else None) if isinstance(value, Mapping) else value

    return json.loads(json.dumps({k: recorded(value) for k, value in identity.items()}))  # type: ignore[no-any-return]


def _compared(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as files of any version are compared: with the present names of classes, without names of models.

    The hashes of weights identify the models; their folders may have been moved.
    """
    recorded = with_names_of_today(_recorded(identity))
    return {k: v for k, v in recorded.items() if not recorded.get(f"{k}_weights")}


def _has_tokens(scored: ScoredGroups) -> bool:
    return all(r.token_rewards or not r.tokens for rewards in scored.rewards for r in rewards)


def _size(group: Group) -> int:
    return len(group.problem.text) + sum(len(r.response) for r in group.rollouts)


def _cuts(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Consecutive ranges [start, end) whose sizes sum to at most ``CHUNK``; a larger item is a range of its own."""
    start, total = 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > CHUNK:
            yield start, i
            start, total = i, 0
        total += size
    yield start, len(sizes)


def _join(parts: Sequence[Path], out: Path) -> None:
    with written_whole(out) as partial, partial.open("wb") as file:
        if out.suffix == ".parquet":
            _write_parquet(parts, file)
        elif out.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                _copy(parts, cast(IO[bytes], packed))
        else:
            _copy(parts, file)


def _copy(parts: Sequence[Path], file: IO[bytes]) -> None:
    for part in parts:
        with part.open("rb") as opened:
            shutil.copyfileobj(opened, file)


def _write_parquet(parts: Sequence[Path], file: IO[bytes]) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(
        _table([json.loads(line) for part in parts for line in part.read_bytes().splitlines()]), file
    )


def _table(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows as a table of Arrow. Raises ValueError if a column holds values of two types."""
    import pyarrow

    columns = dict.fromkeys(column for row in rows for column in row)  # pyarrow takes those of the first row alone
    try:
        return pyarrow.Table.from_pylist([columns | row for row in rows])
    except pyarrow.ArrowException as error:
        raise ValueError(f"The rows fit no Parquet table ({error}). Give --out a name that ends in .jsonl.") from None
