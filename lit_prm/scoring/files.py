"""Scored files made chunk by chunk: a killed job goes on where it was and ends with the bytes of an unbroken one."""

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

CHUNK = 120_000  # characters of problems and responses scored between two saves
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """Groups to score into ``out``.

    Without ``labels`` a finished file may have others than the groups: its reader brings the labels.
    """

    scorer: Scorer
    groups: Sequence[Group]
    out: Path
    labels: bool = True

    def is_finished(self) -> bool:
        """Whether ``out`` holds these scores; a file with others is refused."""
        if not self.out.exists():
            return False
        found = read_scored(str(self.out))
        ours, theirs = _compared(self.scorer.identity), _compared(found.identity)
        other = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        why = f"by another {', '.join(other)}" if other else ""
        if not why and self._facts(found.groups) != self._facts(_as_read(group) for group in self.groups):
            why = f"of other problems, responses or steps{', or with other labels' if self.labels else ''}"
        if not why and self.scorer.detail == "tokens" and not _has_tokens(found):
            why = "of steps without their tokens"
        if why:
            raise ValueError(f"{self.out} holds scores {why}; give another --out, or move the file away")
        shutil.rmtree(self.parts, ignore_errors=True)  # of a job that was killed when all was done
        return True

    def _facts(self, groups: Iterable[Group]) -> list[dict[str, Any]]:
        """What a file says of the groups but their scores."""
        rows = [group_row(group) for group in groups]
        return rows if self.labels else [{name: row[name] for name in _UNLABELLED} for row in rows]

    def chunks(self) -> Iterator[tuple[Path, Sequence[Group]]]:
        """The groups in order, a save at a time, with the file of each part."""
        made_by = [_compared(self.scorer.identity), self.scorer.detail, list(self.scorer.rounding)]
        for number, (start, end) in enumerate(_cuts([_size(g) for g in self.groups])):
            groups = self.groups[start:end]
            facts = json.dumps([*made_by, [group_row(group) for group in groups]])
            yield self.parts / f"{number:06d}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.jsonl", groups

    @property
    def parts(self) -> Path:
        """The folder of what is done, while the whole is not."""
        return self.out.with_name(f"{self.out.name}.parts")

    def run(self) -> Iterator[Sequence[Group]]:
        """Score what is not yet saved and put the file together; yields each chunk when it is there."""
        with alone(self.parts):
            made = []
            for part, groups in self.chunks():
                if not part.exists():
                    self._save(part, groups)
                made.append(part)
                yield groups
            _put_together(made, self.out)
            clear(self.parts)

    def _save(self, part: Path, groups: Sequence[Group]) -> None:
        scores = self.scorer.score(groups)
        identity = _recorded(self.scorer.identity)
        rows = [scored_row(g, r, identity) for g, r in zip(groups, scores, strict=True)]
        with written_whole(part) as partial:
            partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def refuse_unfit_name(out: Path) -> None:
    """A name says which of the three kinds of file it is."""
    if not out.name.endswith(SUFFIXES):
        raise ValueError(f"{out}: scores are written as {', '.join(SUFFIXES)}; change the name")


_UNLABELLED = ("unique_id", "prompt", "completions", "steps")


def _as_read(group: Group) -> Group:
    """The group as a reader of its row finds it."""
    return PaperRollouts().read(json.loads(json.dumps(group_row(group))))


def _recorded(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as every kind of file holds it: plain JSON, and no empty object, which Parquet has none of."""

    def told(value: Any) -> Any:
        return (_recorded(value) if value else None) if isinstance(value, Mapping) else value

    return json.loads(json.dumps({name: told(value) for name, value in identity.items()}))  # type: ignore[no-any-return]


def _compared(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without the names of what its hashes know better: a folder may be moved."""
    recorded = _recorded(identity)
    return {k: v for k, v in recorded.items() if not recorded.get(f"{k}_weights")}


def _has_tokens(found: ScoredGroups) -> bool:
    return all(r.token_rewards or not r.tokens for rewards in found.rewards for r in rewards)


def _size(group: Group) -> int:
    return len(group.problem.text) + sum(len(r.response) for r in group.rollouts)


def _cuts(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Consecutive [start, end) whose sizes sum to at most ``CHUNK``, or that are one item."""
    start, total = 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > CHUNK:
            yield start, i
            start, total = i, 0
        total += size
    yield start, len(sizes)


def _put_together(parts: Sequence[Path], out: Path) -> None:
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
    import pyarrow
    import pyarrow.parquet

    rows: list[dict[str, Any]] = [json.loads(line) for part in parts for line in part.read_bytes().splitlines()]
    try:
        table = pyarrow.Table.from_pylist(rows)
    except pyarrow.ArrowException as error:
        raise ValueError(f"the rows fit no Parquet table ({error}); give --out a name that ends in .jsonl") from None
    pyarrow.parquet.write_table(table, file)
