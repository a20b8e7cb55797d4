"""Samples, their addresses, and the journal that stores samples as they arrive."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lit_prm.data.records import Message

Prompt = str | tuple[Message, ...]


class Sample(NamedTuple):
    """One response, the reason why it ended ("stop", or "length" if it was cut) and the seed of its sampling."""

    response: str
    finish_reason: str | None
    seed: int


class Arrival(NamedTuple):
    """A sample, the index of its prompt, and its own number among the samples of that prompt."""

    prompt: int
    number: int
    sample: Sample


class Refusal(NamedTuple):
    """The index of a prompt that the source refuses, and the reason."""

    prompt: int
    why: str


Arrivals = Generator[Arrival | Refusal, None, None]  # closing it cancels the samples that are missing


class SampleSource(Protocol):
    """A source of samples. The samples depend on ``settings``, the prompts and the seeds that follow from both."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def trouble(self) -> str:
        """The last failure that was tried again, for a progress bar."""
        ...

    def draw(self, prompts: Sequence[Prompt], n: int, missing: Sequence[Sequence[int]]) -> Arrivals:
        """Draw the samples with the ``missing`` numbers, of ``n`` for each prompt, in any order.

        The source may also draw samples that are not missing. It refuses a prompt that it cannot answer, once or once
        for each sample.
        """
        ...


def address(settings: Mapping[str, Any], prompt: Prompt, number: int) -> str:
    """Address of a sample: a hash of the settings, the prompt and the sample's number."""
    return hashlib.sha256(json.dumps([settings, prompt, number], sort_keys=True).encode()).hexdigest()


def seed_of(name: str) -> int:
    """Seed of 31 bits, which every server accepts, from the hash of an address."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") >> 1


class Journal:
    """File of samples by address, one line each, appended as they arrive; a kill loses at most an incomplete line.

    ``stored`` are samples that another file holds already. Only the process that holds the folder's lock may open the
    journal.
    """

    def __init__(self, path: Path, stored: Mapping[str, Sample]) -> None:
        self._samples = dict(stored)
        complete = 0  # bytes of complete lines
        if path.exists():
            data = path.read_bytes()
            complete = data.rfind(b"\n") + 1
            for number, line in enumerate(data[:complete].splitlines(), 1):
                name, sample = _read(line, f"{path}, line {number}")
                self._samples[name] = sample
        self._file = path.open("ab")
        self._file.truncate(complete)

    def __contains__(self, name: str) -> bool:
        return name in self._samples

    def __getitem__(self, name: str) -> Sample:
        return self._samples[name]

    def add(self, name: str, sample: Sample) -> bool:
        """Store a sample unless its address has one. Returns whether it was stored."""
        if name in self._samples:
            return False
        self._file.write((json.dumps([name, *sample]) + "\n").encode())
        self._file.flush()
        self._samples[name] = sample
        return True

    def close(self) -> None:
        self._file.close()


def _read(line: bytes, place: str) -> tuple[str, Sample]:
    """Address and sample of a line of the journal."""
    try:
        match json.loads(line):
            case [str(name), str(response), str() | None as reason, int(seed)]:
                return name, Sample(response, reason, seed)
    except ValueError:
        pass  # what a power cut or an editor left
    raise ValueError(f"{place}: {line[:60]!r} is not a sample. Remove the line; its sample is drawn again.")


_HALF = re.compile("[\ud800-\udfff]")  # half a character, at the end of a response that was cut


def writable(text: str) -> str:
    """The response with half characters replaced, as files and tokenizers need it; empty if it is blank."""
    return _HALF.sub("\ufffd", text) if text.strip() else ""
