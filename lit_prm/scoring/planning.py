"""Decides which responses go through a model in one batch when they are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_prm.data.batch import Encoded
from lit_prm.data.batching import TokenBudget

LEAST_SAVED = 0.1  # of all tokens; below this share, sorting whole rows by length saves more padding than sharing


def planned(rows: Sequence[Encoded], budget: int, *, may_share: bool) -> Iterator[tuple[list[int], bool]]:
    """Batches that hold every row once, as row numbers, each with True if the batch shares prompts.

    If sharing saves much, batches go from problem to problem, with each prompt once and at most ``budget`` tokens or
    one response. Otherwise batches hold rows of similar length with at most ``budget`` padded tokens.
    """
    if may_share and _saved(rows) >= LEAST_SAVED:
        yield from ((batch, True) for batch in _problem_after_problem(rows, budget))
    else:
        yield from ((list(cut.rows), False) for cut in TokenBudget(rows, budget))


def _problem_after_problem(rows: Sequence[Encoded], budget: int) -> Iterator[list[int]]:
    batch, tokens = list[int](), 0
    for problem in _problems(rows):
        prompt = rows[problem[0]].prompt_length
        new_prompt = prompt  # tokens that the prompt adds to this batch
        for i in problem:
            response = len(rows[i]) - prompt
            if batch and tokens + new_prompt + response > budget:
                yield batch
                batch, tokens, new_prompt = [], 0, prompt
            batch.append(i)
            tokens, new_prompt = tokens + new_prompt + response, 0
    yield batch


def _problems(rows: Sequence[Encoded]) -> list[list[int]]:
    """Rows grouped by their prompt, longest prompts first: a batch that does not fit in memory fails at once."""
    by_prompt: dict[bytes, list[int]] = {}
    for i, row in enumerate(rows):
        by_prompt.setdefault(_prompt(row), []).append(i)
    return sorted(by_prompt.values(), key=lambda problem: -rows[problem[0]].prompt_length)


def _saved(rows: Sequence[Encoded]) -> float:
    """The share of all tokens that repeat the prompt of another row."""
    distinct = {_prompt(row): row.prompt_length for row in rows}
    every = sum(len(row) for row in rows)
    return (sum(row.prompt_length for row in rows) - sum(distinct.values())) / max(every, 1)


def _prompt(row: Encoded) -> bytes:
    return row.ids[: row.prompt_length].tobytes()
