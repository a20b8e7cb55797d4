"""The data of the page: for each scored file an index of all problems, and each problem with its responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from lit_prm.answers import extract_answer
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.evaluation.aggregates import AGGREGATES, aggregated
from lit_prm.evaluation.selection import best_of_n
from lit_prm.reports.viewer.pieces import Piece, token_pieces, utf16_lengths
from lit_prm.reports.viewer.scale import Scale
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.scored_files import ScoredGroups

Content = dict[str, Any]  # JSON


def index(scored: ScoredGroups) -> Content:
    """The data of the list, its filters and the legend: one list per property, with an item for each problem."""
    everything = list(chain.from_iterable(scored.rewards))
    tokens = token_scale(scored)
    return {
        "source": scored.source,
        "identity": dict(scored.identity),
        "aggregates": list(AGGREGATES),
        "aggregate": _primary(scored.identity),
        "responses": len(everything),
        "steps": Scale.of(chain.from_iterable(r.step_rewards for r in everything))._asdict(),
        "tokens": {**tokens._asdict(), "digits": tokens.digits} if tokens else None,
        "id": [g.problem.id for g in scored.groups],
        "subject": [g.problem.subject for g in scored.groups],
        "level": [g.problem.level for g in scored.groups],
        "text": [_opening(g.problem) for g in scored.groups],
        "size": [len(g.rollouts) for g in scored.groups],
        "right": [sum(r.correct is True for r in g.rollouts) for g in scored.groups],
        "wrong": [sum(r.correct is False for r in g.rollouts) for g in scored.groups],
        "best": [best_choices(g, r) for g, r in zip(scored.groups, scored.rewards, strict=True)],
    }


def token_scale(scored: ScoredGroups) -> Scale | None:
    """The colour scale of all token rewards of a file; None if it has none."""
    rewards = [x for of_group in scored.rewards for r in of_group for x in r.token_rewards]
    return Scale.of(rewards) if rewards else None


def _primary(identity: Mapping[str, Any]) -> str:
    named = identity.get("aggregate")
    return named if named in AGGREGATES else next(iter(AGGREGATES))


OPENING = 2000  # characters of a problem that the list shows and searches; all of it stands above its responses


def _opening(problem: Problem) -> str:
    return problem.text[:OPENING]


def best_choices(group: Group, rewards: Sequence[Rewards]) -> dict[str, float] | None:
    """Aggregate -> accuracy of the response with the best score, ties shared; None if a response has no label."""
    correct = [r.correct for r in group.rollouts if r.correct is not None]
    if len(correct) < len(group.rollouts) or not correct:
        return None
    scores = [aggregated(r.step_rewards) for r in rewards]
    return {name: best_of_n([_rank(s[name]) for s in scores], correct, len(correct)) for name in AGGREGATES}


def _rank(score: float | None) -> float:
    return -math.inf if score is None else score


def problem_content(group: Group, rewards: Sequence[Rewards], tokens: Scale | None) -> Content:
    """One problem with its K responses; token rewards are whole numbers of the scale's last decimal."""
    unit = 10.0**tokens.digits if tokens else 1.0
    problem = group.problem
    prompt = [("", problem.prompt)] if isinstance(problem.prompt, str) else [_message(m) for m in problem.prompt]
    return {
        "prompt": prompt,
        "answer": problem.answer,
        "responses": [response_content(*pair, unit) for pair in zip(group.rollouts, rewards, strict=True)],
    }


def _message(message: Mapping[str, str]) -> tuple[str, str]:
    return message["role"], message["content"]


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
