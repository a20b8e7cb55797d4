"""Which responses go through a model together when they are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_prm.batch import Encoded
from lit_prm.batching import TokenBudget

LEAST_SAVED = 0.1  # of all tokens: below, whole rows sorted over all problems have less padding to pay for
CHUNK = 32  # times the budget: padded tokens of one chunk, whose prompts are run once


def planned(rows: Sequence[Encoded], budget: int, *, may_share: bool) -> Iterator[tuple[list[int], bool]]:
    """Every row once, in batches, and whether a batch is to share prompts.

    Where shared prompts save much, a batch is whole problems, those with prompts of like length together; otherwise
    rows of like length with at most ``budget`` padded tokens.
    """
    if not may_share or _saved(rows) < LEAST_SAVED:
        yield from ((list(cut.rows), False) for cut in TokenBudget(rows, budget))
        return
    batch, longest = list[int](), 0
    for problem in _problems(rows):
        width = max(longest, *(len(rows[i]) for i in problem))
        if batch and (len(batch) + len(problem)) * width > CHUNK * budget:
            yield batch, True
            batch, width = [], max(len(rows[i]) for i in problem)
        batch, longest = batch + problem, width
    if batch:
        yield batch, True


def _problems(rows: Sequence[Encoded]) -> list[list[int]]:
    """Rows by their prompt, longest prompts first: what does not fit in memory fails at once."""
    found: dict[bytes, list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault(_prompt(row), []).append(i)
    return sorted(found.values(), key=lambda problem: -rows[problem[0]].prompt_length)


def _saved(rows: Sequence[Encoded]) -> float:
    """The share of all tokens that are prompts which another row has too."""
    distinct = {_prompt(row): row.prompt_length for row in rows}
    every = sum(len(row) for row in rows)
    return (sum(row.prompt_length for row in rows) - sum(distinct.values())) / max(every, 1)


def _prompt(row: Encoded) -> bytes:
    return row.ids[: row.prompt_length].tobytes()
