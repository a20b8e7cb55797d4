"""The evaluation of the paper's repository, quirks included: `--compat official` (docs/facts.md).

Its numbers are to be compared with the paper's only. The script looks at the first N candidates in file order, knows
the gold answer when it counts votes, lets unparsed answers vote, and weighs votes by numbers that are all near 1/2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lit_prm.answers import extract_answer
from lit_prm.data.records import Group, Rollout
from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.reports.best_of_n.pool import CandidatePool, Opinion, padded

COUNTS = (1, 2, 4, 8, 16, 32, 64)
COEFFICIENT = 0.001  # of its raw scores, sums of log-ratios; training has another beta
UNPARSED = "None"

Row = dict[int, float]  # N -> accuracy in %, rounded to 0.1
Answered = tuple[list[str], list[bool], str]  # one problem: its answers, which of them are right, the gold answer


def official(pool: CandidatePool) -> dict[str, dict[str, Row]]:
    """Scorer -> rule -> accuracy by N. The name ``""`` holds any-of-N and self-consistency, which need no scorer."""
    problems: list[Answered] = [
        ([merged_answer(g, r) for r in g.rollouts], [bool(r.correct) for r in g.rollouts], str(g.problem.answer))
        for g in pool.groups
    ]
    counts = [n for n in COUNTS if n <= max(len(right) for _, right, _ in problems)]
    untrained = {
        "any of the first N": {n: _percent([any(right[:n]) for _, right, _ in problems]) for n in counts},
        "self-consistency": {n: _percent([_consistent(a[:n], right) for a, right, _ in problems]) for n in counts},
    }
    return {"": untrained} | {opinion.name: dict(_trained(opinion, problems, counts)) for opinion in pool.opinions}


def merged_answer(group: Group, rollout: Rollout) -> str:
    """The gold answer for every right response (quirk 1), the string "None" for no answer (quirk 3)."""
    if group.problem.answer is None:
        raise ValueError(
            f"problem {group.problem.id} has no reference answer, with which the official protocol counts votes. Fill "
            "the column reference, or leave --compat out."
        )
    if rollout.correct:
        return group.problem.answer
    answer = extract_answer(rollout.response) if rollout.answer is None else rollout.answer
    return UNPARSED if answer is None else answer


def _consistent(answers: Sequence[str], right: Sequence[bool]) -> bool:
    """True if the commonest string (of equals the first) is right in the first response that has it."""
    (winner, _), *_ = Counter(answers).most_common(1)
    return right[answers.index(winner)]


def _trained(opinion: Opinion, problems: Sequence[Answered], counts: Sequence[int]) -> Iterator[tuple[str, Row]]:
    weigh = _sigmoid if _beta(opinion) is not None else float
    for name, scores in official_scores(opinion).items():
        rows = list(zip(problems, scores, strict=True))
        chosen = {n: [right[s.index(max(s[:n]))] for (_, right, _), s in rows] for n in counts}
        elected = {n: [_elected(a[:n], map(weigh, s[:n])) == gold for (a, _, gold), s in rows] for n in counts}
        yield f"best of N, {name}", {n: _percent(hits) for n, hits in chosen.items()}
        yield f"weighted vote, {name}", {n: _percent(hits) for n, hits in elected.items()}


def _beta(opinion: Opinion) -> float | None:
    """The scorer's beta; None for a scorer that is no implicit reward model."""
    beta = opinion.identity.get("beta")
    return float(beta) if isinstance(beta, int | float) else None


def official_scores(opinion: Opinion) -> dict[str, list[list[float]]]:
    """Score of every response: minimum and sum of step rewards (single) and of prefix values q (accumulative).

    The script's rewards are 0.001 times summed log-ratios and ours are beta times them, so ours are divided by the
    scorer's beta first. A scorer without beta is no implicit reward model and keeps its own numbers.
    """
    beta = _beta(opinion)
    base, scale = (1.0, 1.0) if beta is None else (beta, COEFFICIENT)
    rewards = [r for of_group in opinion.rewards for r in of_group]
    tables = {"single": [r.step_rewards for r in rewards], "accumulative": [r.step_values for r in rewards]}
    scores: dict[str, list[list[float]]] = {}
    for steps, rows in tables.items():
        values, valid = padded(rows)
        if valid.any():
            for aggregate in ("min", "sum"):
                flat = iter(AGGREGATES[aggregate](values / base * scale, valid).tolist())
                scores[f"{steps} {aggregate}"] = [[next(flat) for _ in of_group] for of_group in opinion.rewards]
    return scores


def _elected(answers: Sequence[str], weights: Iterable[float]) -> str:
    """The string with the most weight, of equals the first; weights are sigmoids of scores, of baselines the scores."""
    tally: dict[str, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        tally[answer] = tally.get(answer, 0.0) + weight
    return max(tally, key=tally.__getitem__)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(min(-x, 700.0)))  # in this form: equal sums are decided by their last bit


def _percent(hits: Sequence[bool]) -> float:
    return round(100 * sum(hits) / len(hits), 1)


def official_json(pool: CandidatePool, accuracy: Mapping[str, Mapping[str, Row]]) -> dict[str, object]:
    """The accuracies as JSON, labelled as the official protocol."""
    return {
        "protocol": "official (compat), not comparable with expectations over subsets",
        "sources": list(pool.sources),
        "problems": len(pool.groups),
        "shortfalls": pool.shortfalls(),
        "coefficient": COEFFICIENT,
        "accuracy_percent": accuracy,
    }
