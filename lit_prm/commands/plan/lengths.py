"""Token lengths of the training data: counted in its files, or assumed if the files are not there."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from transformers import AutoTokenizer

from lit_prm.commands.plan.setup import Setup
from lit_prm.data.batch import Encoded
from lit_prm.data.batching import Updates
from lit_prm.data.encoding import Encoder
from lit_prm.data.formats import read_groups
from lit_prm.data.records import Group
from lit_prm.data.regimes import subsample
from lit_prm.data.steps import BlankLine
from lit_prm.models.flops import Work
from lit_prm.models.reference.store import LogpStore
from lit_prm.training.trainable import labelled

SAMPLE = 2000  # problems of a larger file that are tokenized


class MicroBatch(NamedTuple):
    """Size of what one device computes at a time."""

    tokens: int  # positions that go through the body, padding included
    outputs: int  # response tokens
    rows: int = 1  # number of rows of equal width that hold the positions


@dataclass(frozen=True, slots=True)
class Assumed:
    """Sizes assumed of missing data. The paper says 33K problems; both lengths are guesses (docs/costs.md)."""

    problems: int = 33_000
    prompt_tokens: int = 150
    response_tokens: int = 450


@dataclass(frozen=True, slots=True)
class EpochLengths:
    """Numbers about the responses that one epoch trains on."""

    responses: int
    prompt_tokens: int  # of all responses together, a prompt once for each of its responses
    read: Work  # all responses once, without padding; logits at every response token
    repeated: Work  # work on prompts that an earlier response of the same problem has already; saved by sharing them
    longest: Callable[[Setup], MicroBatch]  # longest micro-batch of the first epoch under a setup
    updates: int  # in an epoch
    problems: int  # in the smallest update
    store: int  # bytes of the reference store on disk
    source: str  # where the numbers come from


def lengths_of(data: dict[str, Any], setup: Setup, given: dict[str, int]) -> EpochLengths:
    """Lengths of the training file; assumed if it is missing or ``given`` has a field of ``Assumed``."""
    file = Path(data["root"]).expanduser() / Path(data["train"]).expanduser()
    fraction = data.get("fraction", 1.0)
    if not 0 < fraction <= 1:
        raise ValueError(
            f"data.fraction {fraction} is not a share of the problems. Give a number above 0 and at most 1"
        )
    some = Assumed(max(round(fraction * Assumed().problems), 1))
    if given:
        return _of_assumed(replace(some, **given), setup, "given")
    if not file.exists():
        return _of_assumed(some, setup, f"assumed, since {file} is not here (yet)")
    every = labelled(read_groups(str(file), on_bad=data.get("bad_rows", "raise")).groups, str(file))
    groups = subsample(
        every, fraction_of_problems=fraction, responses_per_problem=data.get("responses"), seed=data.get("seed", 0)
    )
    if (tokenizer := _tokenizer(data["tokenizer"])) is None:
        why = f"tokens assumed, since the tokenizer of {data['tokenizer']} is not here (yet)"
        return _of_assumed(replace(some, problems=len(groups)), setup, why)
    return _of_file(file, groups, data, setup, tokenizer)


def _tokenizer(name: str) -> Any:
    """The tokenizer of a folder or of the hub's cache; None if neither has it. Nothing is downloaded."""
    try:
        return cast(Any, AutoTokenizer).from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return None


def _of_file(file: Path, every: Sequence[Group], data: dict[str, Any], setup: Setup, tokenizer: Any) -> EpochLengths:
    chosen = random.Random(0).sample(every, SAMPLE) if len(every) > SAMPLE else list(every)
    encoder = Encoder(tokenizer, BlankLine(), max_length=setup.max_length, prompt_template=data["prompt_template"])
    rows, times = encoder.encode(chosen), len(every) / len(chosen)
    return _lengths(
        [len(row) for row in rows], [row.prompt_length for row in rows], times, setup,
        repeated=Work(*(round(times * part) for part in astuple(_repeated(rows)))),
        problems=len(every),
        longest=lambda cut, _: longest_of(rows, cut),
        source=f"{len(every)} problems of {file}" + (f", {SAMPLE} of them sampled" if times > 1 else ""),
    )  # fmt: skip


def _lengths(
    tokens: Sequence[int], prompts: Sequence[int], times: float, setup: Setup, *, repeated: Work, problems: int,
    longest: Callable[[Setup, int], MicroBatch], source: str,
) -> EpochLengths:  # fmt: skip
    """Lengths of ``times`` as many responses as these; ``longest`` also gets the number of updates."""
    n, of_prompt = np.array(tokens), np.array(prompts)
    responses = round(times * len(n))
    updates = max(responses // setup.batch_size, 1)
    in_prompts, in_responses = (round(times * int(part.sum())) for part in (of_prompt, n - of_prompt))
    contexts = float((n * (n + 1) / 2).mean())
    return EpochLengths(
        responses=responses,
        prompt_tokens=in_prompts,
        read=Work(in_prompts + in_responses, round(contexts * responses), in_responses),
        repeated=repeated,
        longest=lambda cut: longest(cut, updates),
        updates=updates,
        problems=problems // updates,
        store=store_size((n - of_prompt).tolist(), responses),
        source=source,
    )


def longest_of(rows: Sequence[Encoded], setup: Setup) -> MicroBatch:
    """The micro-batch of the first epoch with the most positions, over all ranks."""
    return max(
        _size([rows[i] for i in cut.rows], setup)
        for rank in range(setup.ranks)
        for cut in Updates(rows, setup.batch_size, cuts=setup.accumulate, rank=rank, ranks=setup.ranks)
    )


def _size(rows: Sequence[Encoded], setup: Setup) -> MicroBatch:
    """Size of these rows as training computes them: end to end if packed, else padded to the longest."""
    widths = [min(len(row), setup.max_length) for row in rows]
    outputs = sum(max(n - row.prompt_length, 0) for n, row in zip(widths, rows, strict=True))
    if not setup.packs:
        return MicroBatch(len(rows) * max(widths), outputs, len(rows))
    return MicroBatch(sum(widths) - (_repeated(rows).tokens if setup.shares else 0), outputs)


def _repeated(rows: Sequence[Encoded]) -> Work:
    """Work on prompts whose problem an earlier row has already."""
    first = {row.group: i for i, row in reversed(list(enumerate(rows)))}
    return Work.read([row.prompt_length for i, row in enumerate(rows) if first[row.group] != i], 0)


def _of_assumed(assumed: Assumed, setup: Setup, why: str) -> EpochLengths:
    """Lengths of equally long responses; only the longest micro-batch is as long as ``max_length`` allows."""
    if setup.responses is None:
        raise ValueError(
            "data.responses is null, which means all responses of a problem, and without the file their number is "
            "unknown. Give a number, for example --data.responses 8"
        )
    n = min(assumed.prompt_tokens + assumed.response_tokens, setup.max_length)
    prompt, problems = min(assumed.prompt_tokens, n - 1), assumed.problems
    responses = problems * setup.responses
    return _lengths(
        [n], [prompt], responses, setup,
        repeated=Work(*((responses - problems) * part for part in astuple(Work.read([prompt], 0)))),
        problems=problems,
        longest=lambda cut, updates: _longest_allowed(cut, problems, updates, prompt),
        source=f"{why}: {problems} problems, prompts of {prompt} and responses of {n - prompt} tokens; "
        "the longest micro-batch is what max_length allows",
    )  # fmt: skip


def _longest_allowed(setup: Setup, problems: int, updates: int, prompt: int) -> MicroBatch:
    """The longest micro-batch of an epoch of equally long responses.

    Problems are dealt to updates and micro-batches as by ``lit_prm.data.batching.Updates``, which raises ValueError in
    the same case. Some updates and some micro-batches have one problem more than others.
    """
    fewest, most = problems // updates, -(-problems // updates)
    if fewest < setup.cuts:
        remedy = "raise data.batch_size or lower trainer.accumulate_grad_batches"
        raise ValueError(
            f"an update of {setup.batch_size} responses has {fewest} problems, too few for {setup.accumulate} "
            f"micro-batches x {setup.ranks} devices; {remedy if updates > 1 else 'there must be more problems'}"
        )
    assert setup.responses is not None  # _of_assumed refuses None
    together = -(-most // setup.cuts)
    rows = together * setup.responses
    shared = (rows - together) * prompt if setup.shares else 0
    return MicroBatch(rows * setup.max_length - shared, rows * (setup.max_length - prompt), 1 if setup.packs else rows)


def store_size(response_tokens: Sequence[int], responses: int, sample: int = 5000) -> int:
    """Bytes on disk of a store with ``responses`` entries of about these lengths.

    A sample is written with the store's own schema, because database pages and their unused ends are a good part of
    the size.
    """
    drawn, source = random.Random(0).choices(response_tokens, k=min(sample, responses)), random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        store = LogpStore(str(Path(folder) / "store.sqlite"))
        store.write((source.randbytes(32), np.zeros(n, np.float32)) for n in drawn)
        return round(store.size()[1] * responses / len(drawn))
