"""The data of the page: an index of each file's problems, every problem with its responses, colours, token pieces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from lit_prm.answers import extract_answer
from lit_prm.data.records import Group, Rollout
from lit_prm.data.steps import step_of_tokens
from lit_prm.evaluation.aggregates import AGGREGATES, aggregated
from lit_prm.evaluation.selection import best_of_n
from lit_prm.scoring.rewards import Rewards, Span
from lit_prm.scoring.scored_files import ScoredGroups

SHARE = 95.0  # percent of the rewards within the ends of the scale; the others have the colour of an end


class Scale(NamedTuple):
    """A colour scale from ``centre - reach`` to ``centre + reach``.

    With ``probabilities`` rewards lie in [0, 1] and are shown so, not as log-odds.
    """

    centre: float
    reach: float
    probabilities: bool

    @property
    def digits(self) -> int:
        """Decimals to show: three significant digits at the ends of the scale."""
        return max(0, 2 - math.floor(math.log10(self.reach)))

    @classmethod
    def of(cls, rewards: Iterable[float | None]) -> Scale:
        """From 0 to 1 if all rewards lie in [0, 1]; else around 0, up to the 95th percentile of absolute rewards."""
        finite = np.array([x for x in rewards if x is not None], dtype=float)
        finite = finite[np.isfinite(finite)]
        if len(finite) and finite.min() >= 0 and finite.max() <= 1 and finite.any():
            return cls(0.5, 0.5, True)
        reach = float(np.percentile(np.abs(finite), SHARE)) if len(finite) else 0.0
        return cls(0.0, float(f"{reach or np.abs(finite).max(initial=0.0) or 1.0:.2g}"), False)


Content = dict[str, Any]  # JSON


def index(scored: ScoredGroups) -> Content:
    """The data of the list, its filters and the legend: one list per property, with an item for each problem."""
    everything = list(chain.from_iterable(scored.rewards))
    tokens, named = token_scale(scored), scored.identity.get("aggregate")
    return {
        "source": scored.source,
        "identity": dict(scored.identity),
        "aggregates": list(AGGREGATES),
        "aggregate": named if named in AGGREGATES else next(iter(AGGREGATES)),
        "responses": len(everything),
        "steps": Scale.of(chain.from_iterable(r.step_rewards for r in everything))._asdict(),
        "tokens": {**tokens._asdict(), "digits": tokens.digits} if tokens else None,
        "id": [g.problem.id for g in scored.groups],
        "subject": [g.problem.subject for g in scored.groups],
        "level": [g.problem.level for g in scored.groups],
        "text": [g.problem.text[:OPENING] for g in scored.groups],
        "size": [len(g.rollouts) for g in scored.groups],
        "right": [sum(r.correct is True for r in g.rollouts) for g in scored.groups],
        "wrong": [sum(r.correct is False for r in g.rollouts) for g in scored.groups],
        "best": [best_choices(g, r) for g, r in zip(scored.groups, scored.rewards, strict=True)],
    }


def token_scale(scored: ScoredGroups) -> Scale | None:
    """The colour scale of all token rewards of a file; None if it has none."""
    rewards = [x for of_group in scored.rewards for r in of_group for x in r.token_rewards]
    return Scale.of(rewards) if rewards else None


OPENING = 2000  # characters of a problem that the list shows and searches; all of it stands above its responses


def best_choices(group: Group, rewards: Sequence[Rewards]) -> dict[str, float] | None:
    """Aggregate -> accuracy of the response with the best score, ties shared; None if a response has no label."""
    correct = [r.correct for r in group.rollouts if r.correct is not None]
    if len(correct) < len(group.rollouts) or not correct:
        return None
    scores = [aggregated(r.step_rewards) for r in rewards]
    ranks = {name: [-math.inf if (score := s[name]) is None else score for s in scores] for name in AGGREGATES}
    return {name: best_of_n(ranks[name], correct, len(correct)) for name in AGGREGATES}


def problem_content(group: Group, rewards: Sequence[Rewards], tokens: Scale | None) -> Content:
    """One problem with its K responses; token rewards are whole numbers of the scale's last decimal."""
    unit = 10.0**tokens.digits if tokens else 1.0
    problem = group.problem
    messages = [{"role": "", "content": problem.prompt}] if isinstance(problem.prompt, str) else problem.prompt
    return {
        "prompt": [(message["role"], message["content"]) for message in messages],
        "answer": problem.answer,
        "responses": [response_content(*pair, unit) for pair in zip(group.rollouts, rewards, strict=True)],
    }


def response_content(rollout: Rollout, rewards: Rewards, unit: float) -> Content:
    """One response: label, scores and steps; the texts of the steps join to the response."""
    text, pieces = rollout.response, token_pieces(rewards)
    values = rewards.step_values if rewards.step_values != rewards.step_rewards else ()
    return {
        "correct": rollout.correct,
        "answer": extract_answer(text) if rollout.answer is None else rollout.answer,
        "generator": rollout.generator,
        "reward": rounded(rewards.reward),
        "scores": {name: rounded(score, digits=9) for name, score in aggregated(rewards.step_rewards).items()},
        "tokens": rewards.tokens,
        "truncated": rewards.truncated,
        "steps": [text[start:end] for start, end in rewards.step_spans],
        "rewards": [rounded(x) for x in rewards.step_rewards],
        "values": [rounded(x) for x in values],
        "first_error": first_error(rollout, rewards),
        "error_kind": rollout.first_error_kind,
        "pieces": [utf16_lengths(text, of_step) for of_step in pieces],
        "piece_rewards": [[_whole(piece, unit) for piece in of_step] for of_step in pieces],
    }


def first_error(rollout: Rollout, rewards: Rewards) -> int | None:
    """Index of the scored step in which the labelled first wrong step begins; -1 for no error, None without label."""
    if rollout.first_error is None or rollout.first_error < 0 or rollout.steps is None:
        return rollout.first_error if rollout.steps is not None else None
    begins = sum(len(step) for step in rollout.steps[: rollout.first_error])
    return next((i for i, (_, end) in enumerate(rewards.step_spans) if begins < end), None)


def _whole(piece: Piece, unit: float) -> int | list[int] | None:
    """The rewards of the piece in whole units: None, one number, or a list if several tokens share the piece."""
    if len(piece.rewards) == 1 and math.isfinite(piece.rewards[0]):
        return round(piece.rewards[0] * unit)
    return [round(x * unit) if math.isfinite(x) else 0 for x in piece.rewards] or None


def rounded(value: float | None, digits: int = 4) -> float | None:
    """The value with ``digits`` significant digits (9 keep the order of float32); None for None, nan and infinity."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


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
        tokens_of_steps[step].append((span, math.nan if reward is None else reward))
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
    return [len(text[piece.start : piece.end].encode("utf-16-le", "surrogatepass")) // 2 for piece in pieces]
