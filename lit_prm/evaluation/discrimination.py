"""What rewards are worth before selection: do they tell right from wrong, do they find the first wrong step?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_prm.data.records import Group
from lit_prm.evaluation.candidates import CandidateSet, split
from lit_prm.evaluation.first_error import Known, cross_fitted_f1, judged_steps, lowest_share
from lit_prm.evaluation.intervals import bootstrap_interval

Floats = NDArray[np.float64]


class Scored(NamedTuple):
    """What the model said of the U distinct responses of a candidate set; S steps."""

    reward: Floats  # [U] r(y)
    steps: Floats  # [U, S] step rewards
    valid: NDArray[np.bool_]  # [U, S]
    reference_steps: Floats  # [U, S] summed reference log-probs of each step; nan without a reference
    reference_valid: NDArray[np.bool_]  # [U, S] steps that exist, whether or not the model scores them

    @property
    def has_reference(self) -> bool:
        """True if a reference model scored at least one step."""
        return bool(self.reference_valid.any()) and not bool(np.isnan(self.reference_steps).any())


class Located(NamedTuple):
    """Share of each problem's wrong responses whose first wrong step was found; nan without such a response; [P] each.

    ``position`` always points at the step where most first errors of the whole set lie: it knows the labels, so it
    is the best that a rule without eyes for the text could do. ``chance`` draws one of the response's steps.
    """

    found: Floats  # by the lowest step reward
    reference: Floats  # by the lowest reference log-likelihood, untrained
    position: Floats
    chance: Floats


def outcome_metrics(name: str, groups: Sequence[Group], reward: Floats, length: Floats) -> dict[str, float]:
    """How well r(y) separates right from wrong: over all responses, and inside problems where selection happens.

    ``reward`` and ``length`` are those of every response, over the groups; [R].
    """
    correct = np.array([bool(r.correct) for g in groups for r in g.rollouts])
    found = {"auc": auc(reward[correct], reward[~correct])}
    pairs = zip(split(groups, reward), split(groups, correct), strict=True)
    inside = [auc(r[c], r[~c]) for r, c in pairs if c.any() and not c.all()]
    if inside:
        found["auc_within_problems"] = float(np.mean(inside))
    if reward.std() > 0 and length.std() > 0:
        found["length_correlation"] = float(np.corrcoef(reward, length)[0, 1])
    return {f"outcome/{name}/{key}": value for key, value in found.items() if not np.isnan(value)}


def auc(right: Floats, wrong: Floats) -> float:
    """Share of (right, wrong) pairs that are ordered correctly, ties half; nan without pairs."""
    if not len(right) or not len(wrong):
        return float("nan")
    wrong = np.sort(wrong)
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.mean() / 2 / len(wrong))


def step_metrics(candidates: CandidateSet, scored: Scored) -> dict[str, float]:
    """Is the lowest step reward that of the first wrong step? Over responses whose first error is known."""
    all_problems = located(candidates, scored)
    known = Located(*(column[~np.isnan(all_problems.chance)] for column in all_problems))
    name, metrics = candidates.name, dict[str, float]()
    if len(known.found):
        metrics = dict(with_interval(f"steps/{name}/first_error_found", known.found))
        for rule in ("reference", "position", "chance")[not scored.has_reference :]:
            theirs = getattr(known, rule)
            metrics[f"steps/{name}/first_error_by_{rule}"] = float(theirs.mean())
            metrics |= with_interval(f"gain/{name}/first_error-{rule}", known.found - theirs)
    if not np.array_equal(scored.valid, scored.reference_valid):
        return metrics  # an outcome model scores last steps alone: its numbers would stand beside others' of all steps
    found = {"auc": auc(*_judged_steps(candidates, scored)), "f1": _f1(candidates, scored)}
    return metrics | {f"steps/{name}/{key}": value for key, value in found.items() if not np.isnan(value)}


def _f1(candidates: CandidateSet, scored: Scored) -> float:
    """Of the first wrong step by a threshold, over all responses whose steps were checked."""
    known, rows = _checked(candidates)
    return cross_fitted_f1(scored.steps[rows], scored.valid[rows], known.first_error, known.problem)


def _checked(candidates: CandidateSet) -> tuple[Known, NDArray[np.intp]]:
    """The responses whose own steps were checked, none where others were scored, and their rows among the scored."""
    known = Known.of(candidates.groups if candidates.own_steps else ())
    return known, candidates.source[known.at]


def located(candidates: CandidateSet, scored: Scored) -> Located:
    """The first wrong step as found by rewards and by three rules without training. Ties share the hit."""
    known = _known_errors(candidates, scored)
    errors = Counter(e for pairs in known for _, e in pairs)
    common = min(errors, key=lambda e: (-errors[e], e)) if errors else 0
    out = Located(*np.full((4, len(known)), np.nan))
    for p, pairs in enumerate(known):
        if pairs:
            out.found[p] = _hits(scored.steps, scored.valid, pairs)
            if scored.has_reference:
                out.reference[p] = _hits(scored.reference_steps, scored.reference_valid, pairs)
            out.position[p] = np.mean([e == common for _, e in pairs])
            out.chance[p] = np.mean([1 / scored.reference_valid[u].sum() for u, _ in pairs])
    return out


def _known_errors(candidates: CandidateSet, scored: Scored) -> list[list[tuple[int, int]]]:
    """(row, first wrong step) of every response that has one and whose own steps were scored, by problem."""
    if not candidates.own_steps:
        return [[] for _ in candidates.groups]
    return [
        [
            (int(u), r.first_error)
            for u, r in zip(rows, group.rollouts, strict=True)
            if r.first_error is not None and r.first_error >= 0 and scored.valid[u].any()
        ]
        for rows, group in zip(candidates.split(candidates.source), candidates.groups, strict=True)
    ]


def _hits(steps: Floats, valid: NDArray[np.bool_], pairs: list[tuple[int, int]]) -> float:
    return float(np.mean([_is_worst(steps[u], valid[u], error) for u, error in pairs]))


def _is_worst(steps: Floats, valid: NDArray[np.bool_], step: int) -> float:
    """1 when ``step`` alone has the lowest reward, a share of it when others have it too, 0 otherwise."""
    return float(lowest_share(steps[None], valid[None])[0, step]) if step < len(steps) else 0.0  # lost by a cut


def _judged_steps(candidates: CandidateSet, scored: Scored) -> tuple[Floats, Floats]:
    """Rewards of steps known to be right and of first wrong steps."""
    known, rows = _checked(candidates)
    right, wrong = judged_steps(scored.valid[rows], known.first_error)
    return scored.steps[rows][right], scored.steps[rows][wrong]


def with_interval(name: str, per_problem: Floats) -> Iterator[tuple[str, float]]:
    """The mean and a 95 % bootstrap interval over problems; one problem has no interval."""
    yield name, float(per_problem.mean())
    if len(per_problem) > 1:
        yield from zip((f"{name}/low", f"{name}/high"), bootstrap_interval(per_problem), strict=True)
