"""All results of `bon` on a pool of candidates, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_prm.answers import counted
from lit_prm.evaluation.aggregates import AGGREGATES, refuse_unknown_aggregates
from lit_prm.evaluation.candidates import answer_clusters
from lit_prm.evaluation.discrimination import Floats, outcome_metrics
from lit_prm.evaluation.evaluate import Judgement, judge_scores, length_scores
from lit_prm.evaluation.selection import candidate_counts
from lit_prm.evaluation.vote_weights import VoteWeight
from lit_prm.reports.best_of_n import measures
from lit_prm.reports.best_of_n.pool import TRAINED, CandidatePool, Opinion, lengths, rewards_of, scores_by
from lit_prm.reports.files import json_value


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `bon`. None stands for each scorer's own aggregate, and for N = 1, 2, 4, ... K."""

    weight: VoteWeight
    aggregate: str | None = None
    counts: tuple[int, ...] | None = None
    seed: int = 0
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Results of one scorer. Without a scorer ``identity``, ``primary`` and the measures of a score are None."""

    judgement: Judgement
    identity: Mapping[str, Any] | None
    primary: str | None
    length_unit: str
    overoptimisation: measures.Overoptimisation | None
    length: measures.LengthBias | None
    process: measures.WrongProcess | None


@dataclass(frozen=True, slots=True)
class Findings:
    """Results of a pool; ``pairs`` compares the primary rules of two scorers, or every two rules (`--pairs`)."""

    pool: CandidatePool
    settings: Settings
    counts: tuple[int, ...]
    each: tuple[Finding, ...]
    pairs: tuple[measures.PairedDifference, ...]
    undecided: int = 0  # comparisons of answers that ended without a verdict: votes took them for unequal


def find(pool: CandidatePool, settings: Settings) -> Findings:
    """Judge the candidates by every scorer of the pool; without scorers by the rules that need none."""
    counts = _counts(pool, settings.counts)
    with counted() as undecided:
        clusters = answer_clusters(pool.name, pool.groups)
    each = tuple(_by_scorer(pool, opinion, clusters, counts, settings) for opinion in pool.opinions)
    each = each or (_without_scorer(pool, clusters, counts, settings),)
    return Findings(pool, settings, counts, each, tuple(_pairs(each, settings.pairs)), undecided.count)


def _counts(pool: CandidatePool, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of candidates, ascending; K is always the last, since McNemar's test and the fall from a peak need it."""
    k = max(len(g.rollouts) for g in pool.groups)
    if bad := [n for n in wanted or () if not 1 <= n <= k]:
        raise ValueError(f"--counts has {bad[0]}, but problems have up to {k} candidates. Name numbers from 1 to {k}.")
    return tuple(sorted({*wanted, k})) if wanted else tuple(candidate_counts(k))


def _by_scorer(
    pool: CandidatePool, opinion: Opinion, clusters: NDArray[np.intp], counts: tuple[int, ...], settings: Settings
) -> Finding:
    groups, length = pool.groups, lengths(pool.groups, opinion)
    primary = settings.aggregate or opinion.identity.get("aggregate") or "min"
    refuse_unknown_aggregates([primary])
    scores = scores_by(opinion, length, primary)
    judgement = judge_scores(
        opinion.name, groups, clusters, scores, voters=_voters(scores, primary, settings.weight),
        weight=settings.weight, counts=counts, seed=settings.seed,
    )  # fmt: skip
    outcome = outcome_metrics(opinion.name, groups, rewards_of(opinion), length.values)
    metrics = {**judgement.metrics, **outcome}
    curves, score = judgement.curves, scores[primary]
    return Finding(
        replace(judgement, metrics=metrics), opinion.identity, primary,
        length.unit, measures.overoptimisation(groups, score, counts, curves[f"bon/{primary}"], curves["any"]),
        measures.length_bias(groups, score, *length, counts), measures.wrong_process(groups, score, counts),
    )  # fmt: skip


def _voters(scores: Mapping[str, Floats], primary: str, weight: VoteWeight) -> list[str]:
    """Names of the scores that weigh votes: the primary, then the other aggregates and the reference where they can."""
    others = [name for name in scores if name in (*AGGREGATES, "reference-min") and name != primary]
    return [primary, *(name for name in others if weight.takes_negative or scores[name].min() >= 0)]


def _without_scorer(
    pool: CandidatePool, clusters: NDArray[np.intp], counts: tuple[int, ...], settings: Settings
) -> Finding:
    length = lengths(pool.groups, None)
    scores = length_scores(length.values)
    judgement = judge_scores(
        pool.name, pool.groups, clusters, scores, weight=settings.weight, counts=counts, seed=settings.seed
    )
    process = measures.wrong_process(pool.groups, scores["random"], counts)
    return Finding(judgement, None, None, length.unit, None, None, process)


def _pairs(each: Sequence[Finding], every: bool) -> list[measures.PairedDifference]:
    """Pairs of the primary best-of-N and vote of two scorers; of every two rules if ``every``."""
    many = len(each) > 1
    named = [(f, f.judgement.curves, f"{f.judgement.name}: " if many else "") for f in each]
    if every:
        rules = {f"{before}{rule}": curves[rule] for f, curves, before in named for rule in _choosing(f)}
        return measures.all_pairs(rules | {"majority": each[0].judgement.curves["majority"]})
    primary = [
        {f"{before}{method}/{f.primary}": curves[f"{method}/{f.primary}"] for f, curves, before in named if many}
        for method in ("bon", "vote")
    ]
    return [pair for curves in primary for pair in measures.all_pairs(curves)]


def _choosing(finding: Finding) -> list[str]:
    """Rules to compare: best-of-N by the scores of a scorer, its reference or length, and the primary vote."""
    wanted = [f"bon/{name}" for name in (*TRAINED, "reference-min", "shortest", "longest")]
    return [r for r in finding.judgement.curves if r in wanted or r == f"vote/{finding.primary}"]


def as_json(findings: Findings) -> dict[str, Any]:
    """All numbers, also those of single problems; null stands for a number that is not defined."""
    pool, settings = findings.pool, findings.settings
    results: dict[str, Any] = json_value({
        "protocol": "exact expectations over subsets of the candidates; weighted votes as vote_errors says",
        "sources": pool.sources,
        "problems": len(pool.groups),
        "responses": sum(len(g.rollouts) for g in pool.groups),
        "undecided_comparisons": findings.undecided,
        "shortfalls": pool.shortfalls(),
        "counts": findings.counts,
        "vote_weight": repr(settings.weight),
        "seed": settings.seed,
        "scorers": {f.judgement.name: _finding(f) for f in findings.each},
        "pairs": findings.pairs,
        "per_problem": [
            {
                "problem": group.problem.id,
                "candidates": len(group.rollouts),
                "curves": {f.judgement.name: {k: c[p] for k, c in f.judgement.curves.items()} for f in findings.each},
            }
            for p, group in enumerate(pool.groups)
        ],
    })  # fmt: skip
    return results


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "identity": finding.identity,
        "primary": finding.primary,
        "length_unit": finding.length_unit,
        "metrics": finding.judgement.metrics,
        "vote_errors": finding.judgement.errors,
        "overoptimisation": finding.overoptimisation,
        "length_bias": finding.length,
        "right_answer_wrong_process": finding.process,
    }
