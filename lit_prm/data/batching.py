"""Which responses form an update, and how an update is cut into micro-batches: seeded and resumable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise

import numpy as np
from torch.utils.data import Dataset, Sampler

from lit_prm.data.batch import Batch, Encoded, collate


@dataclass(frozen=True, slots=True)
class Cut:
    """One micro-batch: its rows on this rank, and the rows of the whole update on all ranks.

    The first micro-batch of an update has ``share``: the rows of each micro-batch of this rank in the update.
    """

    rows: tuple[int, ...]
    update: tuple[int, ...]
    share: tuple[tuple[int, ...], ...] = ()


class EncodedResponses(Dataset[Batch]):
    """A map-style data set of encoded responses, indexed by ``Cut``: one item is one batch.

    With ``mismatched`` responses, one for each row, the first batch of an update holds those of the rank's share.
    With ``share_prompts`` the batches say which rows have the same prompt.
    """

    def __init__(
        self, encoded: Sequence[Encoded], mismatched: Sequence[Encoded] = (), *, share_prompts: bool = False
    ) -> None:
        self.encoded = encoded
        self.mismatched = mismatched
        self.share_prompts = share_prompts

    def __getitem__(self, cut: Cut) -> Batch:
        share = cut.share if self.mismatched else ()
        return collate(
            [self.encoded[i] for i in cut.rows],
            [self.encoded[i] for i in cut.update],
            mismatched=tuple(collate([self.mismatched[i] for i in rows]) for rows in share),
            share_prompts=self.share_prompts,
        )


def mismatch(encoded: Sequence[Encoded], seed: int, max_length: int) -> list[Encoded]:
    """Every row's prompt with the response of a row of another problem; each response is used once.

    The problems are arranged in a seeded circle, and responses move on by the size of the largest problem, so no
    prompt gets a response of its own problem. Sequences longer than ``max_length`` are cut.
    """
    rows_of = [list(rows) for _, rows in groupby(encoded, key=lambda e: e.group)]
    order = np.random.default_rng([seed, len(rows_of)]).permutation(len(rows_of))
    circle = [row for p in order for row in rows_of[p]]
    most = max(len(rows) for rows in rows_of)
    if 2 * most > len(circle):
        raise ValueError(
            f"a problem has {most} of all {len(circle)} responses, so some would be paired with their own prompt. "
            "Mismatched responses need at least two problems of equal size: add problems or lower data.responses."
        )
    behind = {a.row: b for a, b in zip(circle, circle[most:] + circle[:most], strict=True)}
    return [_joined(e, behind[e.row], max_length) for e in encoded]


def _joined(prompt: Encoded, response: Encoded, max_length: int) -> Encoded:
    """The prompt of one row with the response of another; the label is unknown."""
    ids = np.concatenate([prompt.ids[: prompt.prompt_length], response.ids[response.prompt_length :]])[:max_length]
    step = np.zeros(len(ids) - prompt.prompt_length, dtype=np.int32)
    return Encoded(ids, prompt.prompt_length, step, float("nan"), prompt.group, prompt.row)


class Updates(Sampler[Cut]):
    """Samples the micro-batches of one rank: updates over whole problems, each cut into ``cuts`` micro-batches a rank.

    An update holds at least ``batch_size`` responses on average. Problems are permuted by (seed, epoch) and dealt into
    updates whose sizes differ by at most one problem, so there is no small last update. Within an update, problems are
    sorted by length and cut into ``cuts * ranks`` consecutive parts of about equal padded size. Which problems share
    an update depends on neither ``cuts`` nor ``ranks``.

    ``skip`` is the number of micro-batches to skip once, to continue an interrupted epoch.
    """

    def __init__(
        self,
        encoded: Sequence[Encoded],
        batch_size: int,
        *,
        cuts: int = 1,
        rank: int = 0,
        ranks: int = 1,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(
                f"data.batch_size {batch_size} is not at least 1. Give the number of responses of an update."
            )
        self.problems = [tuple(e.row for e in rows) for _, rows in groupby(encoded, key=lambda e: e.group)]
        self.tokens = np.array([max(len(encoded[i]) for i in rows) * len(rows) for rows in self.problems])
        self.width = np.array([max(len(encoded[i]) for i in rows) for rows in self.problems])
        self.cuts, self.rank, self.ranks, self.seed = cuts, rank, ranks, seed
        self.updates = max(len(encoded) // batch_size, 1)
        self.epoch = 0
        self.skip = 0
        smallest = len(self.problems) // self.updates
        if smallest < cuts * ranks:
            raise ValueError(
                f"an update of about {batch_size} responses has {smallest} problems, too few for {cuts} "
                f"micro-batches x {ranks} devices. Raise data.batch_size or lower trainer.accumulate_grad_batches."
            )

    def __len__(self) -> int:
        return self.updates * self.cuts

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the order depends on; the trainer calls it at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Cut]:
        skip, self.skip = self.skip, 0
        cuts = (cut for update in self._dealt() for cut in self._cut(update))
        yield from islice(cuts, skip, None)

    def _dealt(self) -> list[np.ndarray[tuple[int], np.dtype[np.intp]]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.problems))
        return np.array_split(order, self.updates)

    def _cut(self, update: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Iterator[Cut]:
        update_rows = tuple(row for p in update for row in self.problems[p])
        by_length = update[np.argsort(-self.width[update], kind="stable")]
        parts = equal_parts(self.tokens[by_length], self.cuts * self.ranks)
        own_parts = tuple(
            tuple(row for p in by_length[part] for row in self.problems[p]) for part in parts[self.rank :: self.ranks]
        )
        for i, rows in enumerate(own_parts):
            yield Cut(rows, update_rows, own_parts if i == 0 else ())


def equal_parts(sizes: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]], parts: int) -> list[slice]:
    """Cut ``sizes`` into ``parts`` consecutive non-empty slices with about equal sums."""
    total = np.cumsum(sizes)
    ends = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts, side="left") + 1
    count = len(total)
    for i in range(len(ends)):  # at least one item for every part on both sides
        ends[i] = min(max(ends[i], (ends[i - 1] if i else 0) + 1), count - (parts - 1 - i))
    bounds = [0, *ends.tolist(), count]
    return [slice(a, b) for a, b in pairwise(bounds)]


class TokenBudget(Sampler[Cut]):
    """Every response, longest first, in batches of at most ``budget`` padded tokens; for evaluation.

    ``batches`` replaces these batches by others that hold every row once. Every rank has the same number of batches: a
    rank that lacks one repeats the last, because with sharded weights no rank can run alone.
    """

    def __init__(
        self,
        encoded: Sequence[Encoded],
        budget: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        batches: Iterable[Sequence[int]] | None = None,
    ) -> None:
        self.batches = [tuple(rows) for rows in (_by_length(encoded, budget) if batches is None else batches)]
        self.own_batches = self.batches[rank::ranks]
        if len(self.own_batches) < -(-len(self.batches) // ranks):
            self.own_batches.append(self.batches[-1])

    def __len__(self) -> int:
        return len(self.own_batches)

    def __iter__(self) -> Iterator[Cut]:
        return (Cut(rows, rows) for rows in self.own_batches)


def _by_length(encoded: Sequence[Encoded], budget: int) -> Iterator[list[int]]:
    current: list[int] = []
    for i in sorted(range(len(encoded)), key=lambda i: (-len(encoded[i]), i)):
        if current and (len(current) + 1) * len(encoded[current[0]]) > budget:
            yield current
            current = []
        current.append(i)
    if current:
        yield current
