"""What a reward model is worth on a candidate set: every selection rule beside its baselines, per problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_prm.candidates import CandidateSet
from lit_prm.selection import (
    AGGREGATES,
    VoteWeight,
    any_of_n,
    best_of_n,
    bootstrap_interval,
    candidate_counts,
    majority,
    weighted_vote,
)

Floats = NDArray[np.float64]


class Scored(NamedTuple):
    """What the model said of the U distinct responses of a candidate set; S steps."""

    reward: Floats  # [U] r(y)
    steps: Floats  # [U, S] step rewards
    valid: NDArray[np.bool_]  # [U, S]
    reference_steps: Floats  # [U, S] summed reference log-probs of each step


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
        return curve(lambda p, n: weighted_vote(parts[p], answers[p], correct[p], n, seed))

    curves = {f"bon/{name}": chosen(values) for name, values in scores.items()}
    curves |= {f"vote/{name}": voted(values) for name, values in voters.items()}
    curves["majority"] = curve(lambda p, n: majority(answers[p], correct[p], n))
    curves["any"] = curve(lambda p, n: any_of_n(correct[p], n))
    metrics = dict(_metrics(candidates, counts, curves, aggregates[0]))
    metrics |= _outcome(candidates, scored) | _located(candidates, scored)
    return Judgement(candidates.name, counts, curves, scores, metrics)


def _scores(candidates: CandidateSet, scored: Scored, aggregates: Sequence[str]) -> dict[str, Floats]:
    """One float per response from every scorer: the model's aggregates first, then what needs no training."""
    of = candidates.source
    unknown = [name for name in aggregates if name not in AGGREGATES]
    if unknown or not aggregates:
        raise ValueError(f"aggregates {list(aggregates)}: known are {', '.join(AGGREGATES)}; name at least one")
    length = np.array([len(e) - e.prompt_length for e in candidates.encoded], dtype=float)
    reference = {f"reference-{a}": AGGREGATES[a](scored.reference_steps, scored.valid)[of] for a in ("sum", "min")}
    return {
        **{a: AGGREGATES[a](scored.steps, scored.valid)[of] for a in aggregates},
        **reference,
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
        yield from with_interval(f"gain/{name}/vote-majority@{n}", vote - curves["majority"][:, c])
        for part, members in _parts(candidates):
            for method, key in main.items():
                yield f"{method}/{name}/{part}/acc@{n}", float(curves[key][members, c].mean())


def with_interval(name: str, per_problem: Floats) -> Iterator[tuple[str, float]]:
    """The mean and a 95 % bootstrap interval over problems; one problem has no interval."""
    yield name, float(per_problem.mean())
    if len(per_problem) > 1:
        yield from zip((f"{name}/low", f"{name}/high"), bootstrap_interval(per_problem), strict=True)


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


def _outcome(candidates: CandidateSet, scored: Scored) -> dict[str, float]:
    """How well r(y) separates right from wrong: over all responses, and inside problems where selection happens."""
    reward = scored.reward[candidates.source]
    correct = np.array([bool(r.correct) for g in candidates.groups for r in g.rollouts])
    length = np.array([len(candidates.encoded[u]) - candidates.encoded[u].prompt_length for u in candidates.source])
    found = {"auc": auc(reward[correct], reward[~correct])}
    inside = [auc(r[c], r[~c]) for r, c in _per_problem(candidates, reward, correct) if c.any() and not c.all()]
    if inside:
        found["auc_within_problems"] = float(np.mean(inside))
    if reward.std() > 0 and length.std() > 0:
        found["length_correlation"] = float(np.corrcoef(reward, length)[0, 1])
    return {f"outcome/{candidates.name}/{key}": value for key, value in found.items() if not np.isnan(value)}


def _per_problem(
    candidates: CandidateSet, values: Floats, correct: NDArray[np.bool_]
) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    yield from zip(candidates.split(values), candidates.split(correct), strict=True)


def auc(right: Floats, wrong: Floats) -> float:
    """Share of (right, wrong) pairs that are ordered correctly, ties half; nan without pairs."""
    if not len(right) or not len(wrong):
        return float("nan")
    wrong = np.sort(wrong)
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.mean() / 2 / len(wrong))


def _located(candidates: CandidateSet, scored: Scored) -> dict[str, float]:
    """Is the lowest step reward that of the first wrong step? Over responses whose first error is known."""
    hits, chance = located(candidates, scored)
    hits, chance = hits[~np.isnan(hits)], chance[~np.isnan(hits)]
    right, wrong = _judged_steps(candidates, scored)
    found = {}
    if len(hits):
        found = dict(with_interval(f"steps/{candidates.name}/first_error_found", hits))
        found |= dict(with_interval(f"gain/{candidates.name}/first_error-chance", hits - chance))
        found[f"steps/{candidates.name}/first_error_chance"] = float(chance.mean())
    separated = auc(right, wrong)
    return found if np.isnan(separated) else found | {f"steps/{candidates.name}/auc": separated}


def located(candidates: CandidateSet, scored: Scored) -> tuple[Floats, Floats]:
    """Per problem: share of responses with an error whose worst step is the first wrong one, and chance's share.

    Ties for the worst step share the hit; chance draws one of the response's steps. Problems without such a
    response are nan; [P], [P].
    """
    hits, chance = np.full((2, len(candidates.groups)), np.nan)
    for p, (rows, group) in enumerate(zip(candidates.split(candidates.source), candidates.groups, strict=True)):
        pairs = zip(rows, (r.first_error for r in group.rollouts), strict=True)
        known = [(u, e) for u, e in pairs if e is not None and e >= 0 and scored.valid[u].any()]
        if known:
            hits[p] = np.mean([_is_worst(scored.steps[u], scored.valid[u], e) for u, e in known])
            chance[p] = np.mean([1 / scored.valid[u].sum() for u, _ in known])
    return hits, chance


def _is_worst(steps: Floats, valid: NDArray[np.bool_], step: int) -> float:
    """1 when ``step`` alone has the lowest reward, a share of it when others have it too, 0 otherwise."""
    lowest = valid & (steps == steps[valid].min())
    return float(lowest[step] / lowest.sum()) if step < len(steps) else 0.0  # a cut-off response lost its error


def _judged_steps(candidates: CandidateSet, scored: Scored) -> tuple[Floats, Floats]:
    """Rewards of steps known to be right and of first wrong steps; what follows an error is judged by nobody."""
    right, wrong = [], []
    rollouts = [r for g in candidates.groups for r in g.rollouts]
    for u, rollout in zip(candidates.source, rollouts, strict=True):
        if rollout.first_error is None:
            continue
        rewards, valid = scored.steps[u], scored.valid[u]
        end = rollout.first_error if rollout.first_error >= 0 else len(rewards)
        right += list(rewards[:end][valid[:end]])
        if 0 <= end < len(rewards) and valid[end]:
            wrong.append(rewards[end])
    return np.array(right), np.array(wrong)
