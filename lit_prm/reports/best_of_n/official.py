"""The paper repository's evaluation, quirks included: `--compat official` (docs/facts.md).

Its numbers are for comparison with the paper's alone. It looks at the first N candidates in file order only, knows
the gold answer when it counts votes, lets unparsed answers vote, and weighs votes by numbers that are all near 1/2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lit_prm.answers import extract_answer
from lit_prm.data.records import Group, Rollout
from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.reports.best_of_n.pool import CandidatePool, Opinion
from lit_prm.reports.best_of_n.scores import padded

COUNTS = (1, 2, 4, 8, 16, 32, 64)
COEFFICIENT = 0.001  # of its raw scores, sums of log-ratios; training has another beta
UNPARSED = "None"

Row = dict[int, float]  # N -> accuracy in %, rounded to 0.1


def official(pool: CandidatePool) -> dict[str, dict[str, Row]]:
    """Rule -> accuracy by N, for every scorer; ``any@N`` and self-consistency under the name ``""``."""
    answers = [[merged_answer(g, r) for r in g.rollouts] for g in pool.groups]
    right = [[bool(r.correct) for r in g.rollouts] for g in pool.groups]
    counts = [n for n in COUNTS if n <= max(map(len, right))]
    told = {"": dict(_untrained(answers, right, counts))}
    gold = [str(g.problem.answer) for g in pool.groups]
    for opinion in pool.opinions:
        told[opinion.name] = dict(_trained(opinion, answers, right, gold, counts))
    return told


def merged_answer(group: Group, rollout: Rollout) -> str:
    """The gold answer for every right response (quirk 1), the string "None" for no answer (quirk 3)."""
    if group.problem.answer is None:
        raise ValueError(
            f"problem {group.problem.id}: no reference answer, which the official protocol counts votes with; fill "
            "the column reference or leave --compat out"
        )
    if rollout.correct:
        return group.problem.answer
    said = extract_answer(rollout.response) if rollout.answer is None else rollout.answer
    return UNPARSED if said is None else said


def _untrained(
    answers: Sequence[Sequence[str]], right: Sequence[Sequence[bool]], counts: Sequence[int]
) -> Iterator[tuple[str, Row]]:
    yield "any of the first N", {n: _percent([any(r[:n]) for r in right]) for n in counts}
    voted = {n: _percent([_consistent(a[:n], r) for a, r in zip(answers, right, strict=True)]) for n in counts}
    yield "self-consistency", voted


def _consistent(answers: Sequence[str], right: Sequence[bool]) -> bool:
    """Whether the commonest string, of equals the one seen first, was right where it was seen first."""
    (winner, _), *_ = Counter(answers).most_common(1)
    return right[answers.index(winner)]


def _trained(
    opinion: Opinion,
    answers: Sequence[Sequence[str]],
    right: Sequence[Sequence[bool]],
    gold: Sequence[str],
    counts: Sequence[int],
) -> Iterator[tuple[str, Row]]:
    implicit = isinstance(opinion.identity.get("beta"), int | float)
    for name, scores in official_scores(opinion).items():
        yield (
            f"best of N, {name}",
            {n: _percent([r[_first_best(s[:n])] for s, r in zip(scores, right, strict=True)]) for n in counts},
        )
        yield (
            f"weighted vote, {name}",
            {
                n: _percent([
                    _elected(a[:n], s[:n], implicit) == reference
                    for a, s, reference in zip(answers, scores, gold, strict=True)
                ])
                for n in counts
            },
        )  # fmt: skip


def official_scores(opinion: Opinion) -> dict[str, list[list[float]]]:
    """Score of every response: minimum and sum of single step rewards and of accumulated ones, the values q.

    Theirs are 0.001 times summed log-ratios, ours beta times them: so ours are divided by the identity's beta first. A
    scorer without beta, not an implicit one, keeps its own numbers.
    """
    beta = opinion.identity.get("beta")
    scale = COEFFICIENT if isinstance(beta, int | float) else 1.0
    base = float(beta) if isinstance(beta, int | float) else 1.0
    rewards = [r for of_group in opinion.rewards for r in of_group]
    tables = {"single": [r.step_rewards for r in rewards], "accumulative": [r.step_values for r in rewards]}
    found: dict[str, list[list[float]]] = {}
    for steps, rows in tables.items():
        values, valid = padded(rows)
        if valid.any():
            for aggregate in ("min", "sum"):
                flat = iter(AGGREGATES[aggregate](values / base * scale, valid).tolist())
                found[f"{steps} {aggregate}"] = [[next(flat) for _ in of_group] for of_group in opinion.rewards]
    return found


def _first_best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def _elected(answers: Sequence[str], scores: Sequence[float], implicit: bool) -> str:
    """The string with the most weight, of equals the one seen first: sigmoids of scores, raw ones of baselines."""
    tally: dict[str, float] = {}
    for answer, score in zip(answers, scores, strict=True):
        tally[answer] = tally.get(answer, 0.0) + (_sigmoid(score) if implicit else score)
    return max(tally, key=tally.__getitem__)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(min(-x, 700.0)))  # in this form: equal sums are decided by their last bit


def _percent(hits: Sequence[bool]) -> float:
    return round(100 * sum(hits) / len(hits), 1)


def official_json(pool: CandidatePool, told: Mapping[str, Mapping[str, Row]]) -> dict[str, object]:
    """The table as JSON, labelled."""
    return {
        "protocol": "official (compat), not comparable with expectations over subsets",
        "sources": list(pool.sources),
        "problems": len(pool.groups),
        "coefficient": COEFFICIENT,
        "accuracy_percent": {name: {rule: dict(row) for rule, row in rules.items()} for name, rules in told.items()},
    }
