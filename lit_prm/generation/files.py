"""Writes files of graded samples. A killed job continues where it was; a finished file can be extended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lit_prm.answers import told
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
    """Progress of a job: numbers of samples that have arrived and of problems that are graded."""

    samples: int
    graded: int


@dataclass(frozen=True, slots=True)
class SamplingJob:
    """Samples ``n`` responses to every problem, grades them where the problem has an answer, and writes ``out``.

    Law: the file depends on the samples alone, not on the order in which they arrive, nor on kills. The address of a
    sample is a hash of how it is drawn: samples of a killed job, and of a finished file that is now extended by samples
    or problems, are not drawn again. Problems with the same prompt share their samples. With ``skip_refused`` a problem
    that the source refuses is left out and recorded in a file beside ``out``.
    """

    source: SampleSource
    problems: Sequence[Problem]
    n: int
    out: Path
    skip_refused: bool = False

    def run(self) -> Iterator[Done]:
        """Draw the missing samples, grade them and write the file; yields progress at the start and after each step."""
        names = {key: [self._address(prompt, k) for k in range(self.n)] for key, prompt in self._prompts.items()}
        with alone(self.parts):
            with closing(Journal(self._journal(), self._finished(names.values()))) as samples:
                refused = yield from self._drawn(names, samples)
                kept = [problem for problem in self.problems if _key(problem) not in refused]
                rows, total = [], self.samples
                with told(f"labels of {self.out}"):
                    for row in self._rows(kept, [[samples[name] for name in names[_key(p)]] for p in kept]):
                        rows.append(row)
                        yield Done(total, len(rows))
            self._record(refused)
            write_rows(self.out, rows)
            clear(self.parts)

    def _drawn(self, names: Mapping[str, Sequence[str]], samples: Journal) -> Generator[Done, None, dict[str, str]]:
        """Draw the samples that the journal lacks; returns the reasons of refusals by prompt."""
        prompts, addresses, refused = list(names), list(names.values()), dict[str, str]()
        missing = [[k for k, name in enumerate(of_prompt) if name not in samples] for of_prompt in addresses]
        arrived = self.samples - sum(map(len, missing))
        yield Done(arrived, 0)
        if not any(missing):
            return refused
        with closing(self.source.draw(list(self._prompts.values()), self.n, missing)) as arrivals:
            for arrival in arrivals:
                if isinstance(arrival, Refusal):
                    refused[prompts[arrival.prompt]] = self._skipped(arrival.why)
                else:
                    arrived += samples.add(addresses[arrival.prompt][arrival.number], arrival.sample)
                yield Done(arrived, 0)
        for prompt, why in refused.items():
            if len(refused) == len(names):
                raise ValueError(f"The server refuses every problem. The first reason: {why}")
            if any(name in samples for name in names[prompt]):
                raise ValueError(
                    f"{why}. The server answered this prompt before: start it with the settings of that time."
                )
        return refused

    def _skipped(self, why: str) -> str:
        if not self.skip_refused:
            raise ValueError(f"{why}. Give --skip-refused to leave out such problems.")
        return why

    def _record(self, refused: Mapping[str, str]) -> None:
        """Write the refused problems to a file of their own, an input for another server; no file without any."""
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
        """File of the refused problems."""
        return self.out.with_name(f"{self.out.name.partition('.jsonl')[0]}.refused.jsonl")

    @property
    def _prompts(self) -> dict[str, Prompt]:
        return {_key(problem): problem.prompt for problem in self.problems}

    @property
    def samples(self) -> int:
        """Number of samples of the finished file; problems with the same prompt count once."""
        return len(self._prompts) * self.n

    @property
    def parts(self) -> Path:
        """Folder of the samples that have arrived, until the file is complete."""
        return self.out.with_name(f"{self.out.name}.parts")

    def _address(self, prompt: Prompt, number: int) -> str:
        return address(self.source.settings, prompt, number)

    def _journal(self) -> Path:
        """Journal of the samples with these settings. Raises ValueError if a job with others is unfinished."""
        settings = json.dumps(self.source.settings, sort_keys=True)
        own = self.parts / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.jsonl"
        if others := [path for path in self.parts.glob("*.jsonl") if path != own and path.stat().st_size]:
            raise ValueError(
                f"{others[0]} holds samples of an unfinished job with other settings. Finish that job first, give "
                "another --out, or remove the folder."
            )
        return own

    def _finished(self, names: Iterable[Sequence[str]]) -> dict[str, Sample]:
        """Samples of the finished file by address. Raises ValueError if the job would drop one of them."""
        if not self.out.exists():
            return {}
        samples = dict(sample for place, row in open_source(str(self.out)).rows for sample in self._read(place, row))
        if lost := len(samples.keys() - {name for of_prompt in names for name in of_prompt}):
            raise ValueError(
                f"{self.out} holds {lost} samples that this command would drop (a smaller --n, other problems). "
                "Keep its --n and problems, or give another --out."
            )
        return samples

    def _read(self, place: str, row: Row | BadRow) -> Iterator[tuple[str, Sample]]:
        """Addresses and samples of a row. Raises ValueError unless a job with the same settings wrote the row."""
        if isinstance(row, BadRow) or "sampling" not in row:
            raise ValueError(f"{place}: `sample` did not write this row. Give another --out.")
        now, before = self.source.settings, row["sampling"]
        if other := sorted(k for k in now.keys() | before.keys() if now.get(k) != before.get(k)):
            raise ValueError(f"{place}: the samples have another {', '.join(other)}. Give another --out.")
        prompt, responses = PaperRollouts().read(row).problem.prompt, row["completions"]
        columns = (parallel(row, name, responses) for name in ("finish_reasons", "seeds"))
        for k, sample in enumerate(zip(responses, *columns, strict=True)):
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
    """Key that problems with the same prompt share."""
    return json.dumps(problem.prompt)
