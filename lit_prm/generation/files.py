"""Files of graded samples: a killed job goes on where it was, a finished file can be given more samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lit_prm.data.formats import group_row, write_rows
from lit_prm.data.formats.columns import BadRow, Row, parallel
from lit_prm.data.formats.layouts import PaperRollouts
from lit_prm.data.formats.sources import open_source
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.generation.outcomes import grade
from lit_prm.generation.samples import Journal, Prompt, Refusal, Sample, SampleSource, address
from lit_prm.storage.atomic import alone, clear

GRADERS = 4  # threads that wait for the processes that grade, while samples arrive


class Done(NamedTuple):
    """How many samples are there, and how many problems are graded."""

    samples: int
    graded: int


@dataclass(frozen=True, slots=True)
class SamplingJob:
    """``n`` samples of every problem, graded where it has an answer, to be written to ``out``.

    Law: the file depends on what the source brings, not on the order in which it does, nor on kills. Samples are known
    by their content: those of a killed job, and those of a finished file that now gets more of them or more
    problems, are not drawn again. Problems of the same words share their samples. With ``skip_refused`` a problem
    that the source refuses is left out, and recorded beside the file.
    """

    source: SampleSource
    problems: Sequence[Problem]
    n: int
    out: Path
    skip_refused: bool = False

    def run(self) -> Iterator[Done]:
        """Draw what is missing, grade, write; says what is done at first and after every step."""
        asked = {key: [self._address(words, k) for k in range(self.n)] for key, words in self._prompts.items()}
        with alone(self.parts):
            with closing(Journal(self._journal(), self._held(asked.values()))) as samples:
                refused = yield from self._drawn(asked, samples)
                kept = [problem for problem in self.problems if _key(problem) not in refused]
                rows, every = [], self.samples
                for row in self._rows(kept, [[samples[name] for name in asked[_key(p)]] for p in kept]):
                    rows.append(row)
                    yield Done(every, len(rows))
            self._record(refused)
            write_rows(self.out, rows)
            clear(self.parts)

    def _drawn(self, asked: Mapping[str, Sequence[str]], samples: Journal) -> Generator[Done, None, dict[str, str]]:
        """Draw what the journal lacks; returns why which prompts are refused."""
        names, refused = list(asked.values()), dict[str, str]()
        missing = [[k for k, name in enumerate(of_prompt) if name not in samples] for of_prompt in names]
        there = self.samples - sum(map(len, missing))
        yield Done(there, 0)
        if not any(missing):
            return refused
        with closing(self.source.draw(list(self._prompts.values()), self.n, missing)) as arrivals:
            for arrival in arrivals:
                if isinstance(arrival, Refusal):
                    refused[list(asked)[arrival.prompt]] = self._skipped(arrival.why)
                else:
                    there += samples.add(names[arrival.prompt][arrival.number], arrival.sample)
                yield Done(there, 0)
        for prompt, why in refused.items():
            if len(refused) == len(asked):
                raise ValueError(f"every problem is refused, the first: {why}")
            if any(name in samples for name in asked[prompt]):
                raise ValueError(f"{why}; it answered this one before: start it with the settings it had then")
        return refused

    def _skipped(self, why: str) -> str:
        if not self.skip_refused:
            raise ValueError(f"{why}; --skip-refused leaves out such problems")
        return why

    def _record(self, refused: Mapping[str, str]) -> None:
        """The refused problems in a file of their own, which another server can be asked: none, no file."""
        rows = [
            group_row(Group(problem=problem, rollouts=())) | {"refused": refused[_key(problem)]}
            for problem in self.problems
            if _key(problem) in refused
        ]
        if rows:
            write_rows(self.refused, rows)
        else:
            self.refused.unlink(missing_ok=True)

    @property
    def refused(self) -> Path:
        """Where the problems are that the file lacks."""
        return self.out.with_name(f"{self.out.name.partition('.jsonl')[0]}.refused.jsonl")

    @property
    def _prompts(self) -> dict[str, Prompt]:
        return {_key(problem): problem.prompt for problem in self.problems}

    @property
    def samples(self) -> int:
        """How many the file takes."""
        return len(self._prompts) * self.n

    @property
    def parts(self) -> Path:
        """The folder of what has arrived, while the whole has not."""
        return self.out.with_name(f"{self.out.name}.parts")

    def _address(self, prompt: Prompt, number: int) -> str:
        return address(self.source.settings, prompt, number)

    def _journal(self) -> Path:
        """What has arrived by these settings; samples of a job by others are not thrown away."""
        settings = json.dumps(self.source.settings, sort_keys=True)
        ours = self.parts / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.jsonl"
        if others := [path for path in self.parts.glob("*.jsonl") if path != ours and path.stat().st_size]:
            raise ValueError(
                f"{others[0]} holds samples of an unfinished job with other settings; finish that one first, give "
                "another --out, or remove the folder"
            )
        return ours

    def _held(self, asked: Iterable[Sequence[str]]) -> dict[str, Sample]:
        """The samples of a finished file, all of which must be asked for again."""
        if not self.out.exists():
            return {}
        held = dict(sample for place, row in open_source(str(self.out)).rows for sample in self._read(place, row))
        if lost := len(held.keys() - {name for names in asked for name in names}):
            raise ValueError(
                f"{self.out} holds {lost} samples that are not asked for now (a larger --n, other problems); ask for "
                "these too, or give another --out"
            )
        return held

    def _read(self, place: str, row: Row | BadRow) -> Iterator[tuple[str, Sample]]:
        """The samples of a row that a job with the same settings wrote."""
        if isinstance(row, BadRow) or "sampling" not in row:
            raise ValueError(f"{place}: the row was not written by `sample`; give another --out")
        ours, theirs = self.source.settings, row["sampling"]
        if other := sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k)):
            raise ValueError(f"{place}: the samples have another {', '.join(other)}; give another --out")
        prompt, said = PaperRollouts().read(row).problem.prompt, row["completions"]
        columns = (parallel(row, name, said) for name in ("finish_reasons", "seeds"))
        for k, sample in enumerate(zip(said, *columns, strict=True)):
            yield self._address(prompt, k), Sample(*sample)

    def _rows(self, problems: Sequence[Problem], samples: Sequence[Sequence[Sample]]) -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(GRADERS) as graders:  # they wait for the processes that grade
            for group, of_group in zip(graders.map(self._graded, problems, samples), samples, strict=True):
                yield group_row(group) | {
                    "finish_reasons": [s.finish_reason for s in of_group],
                    "seeds": [s.seed for s in of_group],
                    "sampling": dict(self.source.settings),
                }

    def _graded(self, problem: Problem, samples: Sequence[Sample]) -> Group:
        model = self.source.settings["model"]
        group = Group(problem=problem, rollouts=tuple(Rollout(response=s.response, generator=model) for s in samples))
        return group if problem.answer is None else grade(group)


def _key(problem: Problem) -> str:
    """What problems of the same words have in common."""
    return json.dumps(problem.prompt)
