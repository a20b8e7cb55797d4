"""Evaluates selection rules and their baselines, problem by problem, on a candidate set or on given scores."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lit_prm.data.records import Group
from lit_prm.evaluation.aggregates import AGGREGATES, refuse_unknown_aggregates
from lit_prm.evaluation.candidates import CandidateSet, split
from lit_prm.evaluation.discrimination import Floats, Scored, outcome_metrics, step_metrics, with_interval
from lit_prm.evaluation.selection import any_of_n, best_of_each, candidate_counts
from lit_prm.evaluation.vote_weights import VoteWeight
from lit_prm.evaluation.votes import Votes, majority, sampled_votes


@dataclass(frozen=True)
class Judgement:
    """Results on one candidate set.

    ``curves`` hold the expected accuracy of every problem at every number of candidates; [P, C]. A curve's name is a
    method and its scorer: ``bon/min``, ``vote/min``, ``majority``, ``any``. ``errors`` [C] are the standard errors that
    sampled subsets add to the mean of a weighted vote's curve.
    """

    name: str
    counts: tuple[int, ...]
    curves: Mapping[str, Floats]
    scores: Mapping[str, Floats]  # [R] per response, every scorer
    metrics: Mapping[str, float]
    errors: Mapping[str, Floats] = field(default_factory=dict)


def judge(
    candidates: CandidateSet, scored: Scored, aggregates: Sequence[str], weight: VoteWeight, seed: int = 0
) -> Judgement:
    """``judge_scores`` for the rewards of a model on a candidate set, with the metrics of outcomes and steps."""
    length = np.array([len(e) - e.prompt_length for e in candidates.encoded], dtype=float)  # [U]
    of = candidates.source
    scores = {name: values[of] for name, values in scores_of(scored, length, aggregates).items()}
    voters = (*aggregates, *(["reference-min"] if scored.has_reference else []))
    judgement = judge_scores(
        candidates.name, candidates.groups, candidates.clusters, scores, voters=voters, weight=weight, seed=seed
    )
    outcome = outcome_metrics(candidates.name, candidates.groups, scored.reward[of], length[of])
    return replace(judgement, metrics={**judgement.metrics, **outcome, **step_metrics(candidates, scored)})


def judge_scores(
    name: str,
    groups: Sequence[Group],
    clusters: NDArray[np.intp],
    scores: Mapping[str, Floats],
    *,
    voters: Sequence[str] = (),
    weight: VoteWeight,
    counts: Sequence[int] | None = None,
    seed: int = 0,
) -> Judgement:
    """Accuracy of every selection rule for N = 1, 2, 4, ... K candidates.

    ``clusters`` [R] and every score [R] hold one value for each response of all groups. ``voters`` names the scores
    that weigh votes; the first is primary. For N < K the values are expectations over all subsets, exact except for
    ``sampled_votes``. A problem with fewer than N candidates uses all its candidates.
    """
    counts = tuple(counts or candidate_counts(max(len(g.rollouts) for g in groups)))
    correct = [np.array([bool(r.correct) for r in g.rollouts], dtype=float) for g in groups]
    answers = split(groups, clusters)

    def curve(rule: Callable[[int, int], float]) -> Floats:
        return np.array([[rule(p, n) for n in counts] for p in range(len(correct))])

    def chosen(values: Floats) -> Floats:
        parts = split(groups, values)
        return np.array([best_of_each(part, right, counts) for part, right in zip(parts, correct, strict=True)])

    def voted(values: Floats) -> Votes:
        parts = [weight(part) for part in split(groups, values)]
        return sampled_votes(parts, answers, correct, counts, seed)

    votes = {f"vote/{voter}": voted(scores[voter]) for voter in voters}
    curves = {f"bon/{scorer}": chosen(values) for scorer, values in scores.items()}
    curves |= {vote: result.values for vote, result in votes.items()}
    curves["majority"] = curve(lambda p, n: majority(answers[p], correct[p], n))
    curves["any"] = curve(lambda p, n: any_of_n(correct[p], n))
    metrics = dict(_metrics(name, groups, counts, curves, next(iter(voters), None)))
    return Judgement(name, counts, curves, scores, metrics, {vote: result.errors for vote, result in votes.items()})


def scores_of(scored: Scored, length: Floats, aggregates: Sequence[str]) -> dict[str, Floats]:
    """Scores [U] by name: aggregates of the model's rewards first, then baselines without training.

    ``length`` [U] is the length of each response. The scores of a reference that scored no step are left out.
    """
    refuse_unknown_aggregates(aggregates)
    reference = (scored.reference_steps, scored.reference_valid)
    scores = {a: AGGREGATES[a](scored.steps, scored.valid) for a in aggregates}
    if scored.has_reference:
        likelihood = AGGREGATES["sum"](*reference)
        scores["reference-sum"] = likelihood
        scores["reference-per-token"] = likelihood / length
        scores["reference-min"] = AGGREGATES["min"](*reference)
    return scores | length_scores(length)


def length_scores(length: Floats) -> dict[str, Floats]:
    """Scores that ignore the text of a response: its length, and random choice."""
    tied = np.zeros(len(length))  # the expectation of a uniform draw
    return {"shortest": -length, "longest": length, "random": tied}


def _metrics(
    name: str, groups: Sequence[Group], counts: Sequence[int], curves: Mapping[str, Floats], primary: str | None
) -> Iterator[tuple[str, float]]:
    main = {"bon": f"bon/{primary}", "vote": f"vote/{primary}"} if primary else {}
    main |= {"majority": "majority", "any": "any"}
    for c, n in enumerate(counts):
        for method, key in main.items():  # the names a checkpoint or a sweep monitors
            yield from with_interval(f"{method}/{name}/acc@{n}", curves[key][:, c])
        for key, values in curves.items():
            method, _, scorer = key.partition("/")
            if scorer:
                yield from with_interval(f"{method}/{name}/{scorer}/acc@{n}", values[:, c])
        for gain, ours, theirs in _GAINS:
            ours = f"{ours}/{primary}"
            if ours in curves and theirs in curves:
                yield from with_interval(f"gain/{name}/{gain}@{n}", curves[ours][:, c] - curves[theirs][:, c])
        for part, members in _parts(groups):
            for method, key in main.items():
                yield f"{method}/{name}/{part}/acc@{n}", float(curves[key][members, c].mean())


_GAINS = (
    ("bon-random", "bon", "bon/random"),
    ("bon-reference", "bon", "bon/reference-min"),
    ("vote-majority", "vote", "majority"),
    ("vote-reference", "vote", "vote/reference-min"),
)  # name, method of the primary score, the curve it is compared with


def _parts(groups: Sequence[Group]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Problems by subject and by level, as `level-3` and `subject-number-theory`."""
    labels: dict[str, list[int]] = {}
    for p, group in enumerate(groups):
        problem = group.problem
        if problem.level is not None:
            labels.setdefault(f"level-{problem.level}", []).append(p)
        if problem.subject:
            slug = re.sub(r"[^a-z0-9]+", "-", problem.subject.lower()).strip("-")
            labels.setdefault(f"subject-{slug}", []).append(p)
    for label in sorted(labels):
        yield label, np.array(labels[label])
