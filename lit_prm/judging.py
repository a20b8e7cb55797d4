"""Every selection rule beside its baselines on a candidate set, problem by problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lit_prm.candidates import CandidateSet
from lit_prm.diagnosis import Floats, Scored, outcome_metrics, step_metrics, with_interval
from lit_prm.selection import (
    AGGREGATES,
    VoteWeight,
    any_of_n,
    best_of_n,
    candidate_counts,
    majority,
    refuse_unknown_aggregates,
    weighted_votes,
)


@dataclass(frozen=True)
class Judgement:
    """Results on one candidate set.

    ``curves`` hold the expected accuracy of every problem at every number of candidates; [P, C]. Their
    names are a method and the scorer it used: ``bon/min``, ``vote/min``, ``majority``, ``any``.
    """

    name: str
    counts: tuple[int, ...]
    curves: Mapping[str, Floats]
    scores: Mapping[str, Floats]  # [R] per response, every scorer
    metrics: Mapping[str, float]


def judge(
    candidates: CandidateSet,
    scored: Scored,
    aggregates: Sequence[str],
    weight: VoteWeight,
    seed: int = 0,
) -> Judgement:
    """Accuracy of every rule for N = 1, 2, 4, ... K; the first aggregate is the primary one.

    For N < K the values are expectations over all subsets, exact but for weighted votes (see there);
    a problem with fewer than N candidates uses all it has.
    """
    scores = _scores(candidates, scored, aggregates)
    counts = tuple(candidate_counts(max(len(g.rollouts) for g in candidates.groups)))
    voters = {name: scores[name] for name in (*aggregates, "reference-min")}
    correct = [np.array([bool(r.correct) for r in g.rollouts], dtype=float) for g in candidates.groups]
    answers = candidates.split(candidates.clusters)

    def curve(rule: Callable[[int, int], float]) -> Floats:
        return np.array([[rule(p, n) for n in counts] for p in range(len(correct))])

    def chosen(values: Floats) -> Floats:
        parts = candidates.split(values)
        return curve(lambda p, n: best_of_n(parts[p], correct[p], n))

    def voted(values: Floats) -> Floats:
        parts = [weight(part) for part in candidates.split(values)]
        return weighted_votes(parts, answers, correct, counts, seed)

    curves = {f"bon/{name}": chosen(values) for name, values in scores.items()}
    curves |= {f"vote/{name}": voted(values) for name, values in voters.items()}
    curves["majority"] = curve(lambda p, n: majority(answers[p], correct[p], n))
    curves["any"] = curve(lambda p, n: any_of_n(correct[p], n))
    metrics = dict(_metrics(candidates, counts, curves, aggregates[0]))
    metrics |= outcome_metrics(candidates, scored) | step_metrics(candidates, scored)
    return Judgement(candidates.name, counts, curves, scores, metrics)


def _scores(candidates: CandidateSet, scored: Scored, aggregates: Sequence[str]) -> dict[str, Floats]:
    """One float per response from every scorer: the model's aggregates first, then what needs no training."""
    of = candidates.source
    refuse_unknown_aggregates(aggregates)
    length = np.array([len(e) - e.prompt_length for e in candidates.encoded], dtype=float)
    reference = (scored.reference_steps, scored.reference_valid)
    likelihood = AGGREGATES["sum"](*reference)
    return {
        **{a: AGGREGATES[a](scored.steps, scored.valid)[of] for a in aggregates},
        "reference-sum": likelihood[of],
        "reference-per-token": (likelihood / length)[of],
        "reference-min": AGGREGATES["min"](*reference)[of],
        "shortest": -length[of],
        "longest": length[of],
        "random": np.zeros(len(of)),  # all tied: a uniform draw, in expectation
    }


def _metrics(
    candidates: CandidateSet, counts: Sequence[int], curves: Mapping[str, Floats], primary: str
) -> Iterator[tuple[str, float]]:
    name = candidates.name
    main = {"bon": f"bon/{primary}", "vote": f"vote/{primary}", "majority": "majority", "any": "any"}
    for c, n in enumerate(counts):
        for method, key in main.items():  # the names a checkpoint or a sweep monitors
            yield from with_interval(f"{method}/{name}/acc@{n}", curves[key][:, c])
        for key, values in curves.items():
            method, _, scorer = key.partition("/")
            if scorer:
                yield from with_interval(f"{method}/{name}/{scorer}/acc@{n}", values[:, c])
        bon, vote = curves[main["bon"]][:, c], curves[main["vote"]][:, c]
        yield from with_interval(f"gain/{name}/bon-random@{n}", bon - curves["bon/random"][:, c])
        yield from with_interval(f"gain/{name}/bon-reference@{n}", bon - curves["bon/reference-min"][:, c])
        yield from with_interval(f"gain/{name}/vote-majority@{n}", vote - curves["majority"][:, c])
        yield from with_interval(f"gain/{name}/vote-reference@{n}", vote - curves["vote/reference-min"][:, c])
        for part, members in _parts(candidates):
            for method, key in main.items():
                yield f"{method}/{name}/{part}/acc@{n}", float(curves[key][members, c].mean())


def _parts(candidates: CandidateSet) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Problems by subject and by level, as `level-3` and `subject-number-theory`."""
    labels: dict[str, list[int]] = {}
    for p, group in enumerate(candidates.groups):
        problem = group.problem
        if problem.level is not None:
            labels.setdefault(f"level-{problem.level}", []).append(p)
        if problem.subject:
            slug = re.sub(r"[^a-z0-9]+", "-", problem.subject.lower()).strip("-")
            labels.setdefault(f"subject-{slug}", []).append(p)
    for label in sorted(labels):
        yield label, np.array(labels[label])
