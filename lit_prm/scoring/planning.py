"""Which responses go through a model together when they are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_prm.data.batch import Encoded
from lit_prm.data.batching import TokenBudget

LEAST_SAVED = 0.1  # of all tokens: below, whole rows sorted over all problems have less padding to pay for


def planned(rows: Sequence[Encoded], budget: int, *, may_share: bool) -> Iterator[tuple[list[int], bool]]:
    """Every row once, in batches, and whether a batch is to share prompts.

    Where shared prompts save much, problem after problem, with at most ``budget`` tokens or one response in a batch,
    each prompt once; otherwise rows of like length with at most ``budget`` padded tokens.
    """
    if may_share and _saved(rows) >= LEAST_SAVED:
        yield from ((batch, True) for batch in _problem_after_problem(rows, budget))
    else:
        yield from ((list(cut.rows), False) for cut in TokenBudget(rows, budget))


def _problem_after_problem(rows: Sequence[Encoded], budget: int) -> Iterator[list[int]]:
    batch, tokens = list[int](), 0
    for problem in _problems(rows):
        prompt = rows[problem[0]].prompt_length
        to_read = prompt  # of the prompt, in this batch
        for i in problem:
            own = len(rows[i]) - prompt
            if batch and tokens + to_read + own > budget:
                yield batch
                batch, tokens, to_read = [], 0, prompt
            batch.append(i)
            tokens, to_read = tokens + to_read + own, 0
    yield batch


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
