"""A sample, its address, and the file that samples are kept in while they arrive."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lit_prm.data.records import Message

Prompt = str | tuple[Message, ...]


class Sample(NamedTuple):
    """One response as it came: why it ended ("stop", "length": cut) and the seed it was drawn with."""

    response: str
    finish_reason: str | None
    seed: int


class Arrival(NamedTuple):
    """A sample with the numbers of its prompt and of itself among the prompt's samples."""

    prompt: int
    number: int
    sample: Sample


class Refusal(NamedTuple):
    """The number of a prompt that is not answered, and why."""

    prompt: int
    why: str


Arrivals = Generator[Arrival | Refusal, None, None]  # close it to leave the others undone


class SampleSource(Protocol):
    """Where samples come from. What comes depends on ``settings``, the prompts and the seeds made of them."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def trouble(self) -> str:
        """What went wrong last and was tried again, for who watches."""
        ...

    def draw(self, prompts: Sequence[Prompt], n: int, missing: Sequence[Sequence[int]]) -> Arrivals:
        """The ``missing`` ones of ``n`` samples of each prompt, in any order; it may bring others of them too.

        A prompt that cannot be answered is refused, once or for each of its samples.
        """
        ...


def address(settings: Mapping[str, Any], prompt: Prompt, number: int) -> str:
    """What a sample is known by: a hash of how it is drawn, the words it answers and its number."""
    return hashlib.sha256(json.dumps([settings, prompt, number], sort_keys=True).encode()).hexdigest()


def seed_of(name: str) -> int:
    """A seed that every server takes, made of a name; [31 bits]."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") >> 1


class Journal:
    """Samples by address, a line each, appended as they arrive: a kill costs at most the line it cuts.

    ``known`` ones lie elsewhere. Only the process that holds the folder's lock may open it.
    """

    def __init__(self, path: Path, known: Mapping[str, Sample]) -> None:
        self._samples = dict(known)
        whole = 0
        if path.exists():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            for number, line in enumerate(data[:whole].splitlines(), 1):
                name, sample = _read(line, f"{path}, line {number}")
                self._samples[name] = sample
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, whole)

    def __contains__(self, name: str) -> bool:
        return name in self._samples

    def __getitem__(self, name: str) -> Sample:
        return self._samples[name]

    def add(self, name: str, sample: Sample) -> bool:
        """Whether the sample is a new one, and is kept; the first of an address stays."""
        if name in self._samples:
            return False
        line = memoryview((json.dumps([name, *sample]) + "\n").encode())
        while line:  # the system may take a part
            line = line[os.write(self._file, line) :]
        self._samples[name] = sample
        return True

    def close(self) -> None:
        os.close(self._file)


def _read(line: bytes, place: str) -> tuple[str, Sample]:
    """The address and the sample of a line."""
    try:
        match json.loads(line):
            case [str(name), str(response), str() | None as reason, int(seed)]:
                return name, Sample(response, reason, seed)
    except ValueError:
        pass  # what a power cut or an editor left
    raise ValueError(f"{place}: {line[:60]!r} is no sample; remove the line, and its sample is drawn again")


_HALF = re.compile("[\ud800-\udfff]")  # of a character that a limit on tokens cut


def writable(text: str) -> str:
    """The response as files and tokenizers take it: whole characters, and nothing where it is blank."""
    return _HALF.sub("\ufffd", text) if text.strip() else ""
