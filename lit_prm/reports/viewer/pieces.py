"""The text of each step as pieces, one for each token, with the rewards of the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lit_prm.data.steps import step_of_tokens
from lit_prm.scoring.rewards import Rewards, Span


class Piece(NamedTuple):
    """A span of the response and the rewards of its tokens.

    Text after a cut or between two tokens has no reward; tokens that share a character share a piece.
    """

    start: int
    end: int
    rewards: tuple[float, ...]


def token_pieces(rewards: Rewards) -> list[list[Piece]]:
    """Pieces of every step, in order, that join to the step; every token's reward is in exactly one piece.

    A token belongs to the step its first character lies in. A token without characters (the end of turn) is an
    empty piece. Without token rewards a step has no pieces.
    """
    if not rewards.token_spans:
        return [[] for _ in rewards.step_spans]
    steps = step_of_tokens([end - start for start, end in rewards.step_spans], rewards.token_spans)
    tokens_of_steps: list[list[tuple[Span, float]]] = [[] for _ in rewards.step_spans]
    for step, span, reward in zip(steps, rewards.token_spans, rewards.token_rewards, strict=True):
        tokens_of_steps[step].append((span, reward))
    return [list(_tiles(span, tokens)) for span, tokens in zip(rewards.step_spans, tokens_of_steps, strict=True)]


def _tiles(step: Span, tokens: Iterable[tuple[Span, float]]) -> Iterator[Piece]:
    waiting, at = Piece(step[0], step[0], ()), step[0]  # grows while tokens share its characters
    for (first, last), reward in tokens:
        start, end = max(at, min(first, step[1])), max(at, min(last, step[1]))
        if first < min(at, last) and waiting.start < at:
            waiting = Piece(waiting.start, end, (*waiting.rewards, reward))
        else:
            yield from filter(_shows, (waiting, Piece(at, start, ())))
            waiting = Piece(start, end, (reward,))
        at = end
    yield from filter(_shows, (waiting, Piece(at, step[1], ())))


def _shows(piece: Piece) -> bool:
    return piece.start < piece.end or bool(piece.rewards)


def utf16_lengths(text: str, pieces: Sequence[Piece]) -> list[int]:
    """The lengths of the pieces in UTF-16 units, as a browser counts: characters beyond U+FFFF count twice."""
    if text.isascii():
        return [piece.end - piece.start for piece in pieces]
    return [sum(1 + (character > "\uffff") for character in text[piece.start : piece.end]) for piece in pieces]
