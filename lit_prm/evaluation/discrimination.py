"""Metrics of rewards themselves: separation of right and wrong responses, and detection of the first wrong step."""

from __future__ import annotations

import re
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
    """Rewards of the U distinct responses of a candidate set; S steps."""

    reward: Floats  # [U] r(y)
    steps: Floats  # [U, S] step rewards
    valid: NDArray[np.bool_]  # [U, S]
    reference_steps: Floats  # [U, S] summed reference log-probs of each step; nan without a reference
    reference_valid: NDArray[np.bool_]  # [U, S] steps that exist, also those that the model does not score

    @property
    def has_reference(self) -> bool:
        """True if a reference model scored at least one step."""
        return bool(self.reference_valid.any()) and not bool(np.isnan(self.reference_steps).any())


class Located(NamedTuple):
    """Share of each problem's wrong responses whose first wrong step a rule finds; [P] each, nan without such.

    ``position`` always names the step at which most first errors of the set lie. It uses the labels, so no rule that
    ignores the text does better. ``chance`` names a random step of the response.
    """

    found: Floats  # by the lowest step reward
    reference: Floats  # by the lowest log-likelihood of the reference, without training
    position: Floats
    chance: Floats


def outcome_metrics(name: str, groups: Sequence[Group], reward: Floats, length: Floats) -> dict[str, float]:
    """AUC of the rewards r(y), over all responses and as a mean within problems, and their correlation with length.

    ``reward`` and ``length`` [R] hold one value for each response of the groups, in order.
    """
    correct = np.array([bool(r.correct) for g in groups for r in g.rollouts])
    values = {"auc": auc(reward[correct], reward[~correct])}
    pairs = zip(split(groups, reward), split(groups, correct), strict=True)
    inside = [auc(r[c], r[~c]) for r, c in pairs if c.any() and not c.all()]
    if inside:
        values["auc_within_problems"] = float(np.mean(inside))
    known = np.isfinite(reward)  # a response without a reward has -inf
    if known.any() and reward[known].std() > 0 and length[known].std() > 0:
        values["length_correlation"] = float(np.corrcoef(reward[known], length[known])[0, 1])
    return {f"outcome/{name}/{key}": value for key, value in values.items() if not np.isnan(value)}


def auc(right: Floats, wrong: Floats) -> float:
    """AUC: share of (right, wrong) pairs with the larger value at the right one; ties count 1/2, nan without pairs."""
    if not len(right) or not len(wrong):
        return float("nan")
    wrong = np.sort(wrong)
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.mean() / 2 / len(wrong))


def step_metrics(candidates: CandidateSet, scored: Scored) -> dict[str, float]:
    """Whether the lowest step reward is that of the first wrong step, over responses whose first error is labelled."""
    all_problems = located(candidates, scored)
    known = Located(*(column[~np.isnan(all_problems.chance)] for column in all_problems))
    name, metrics = candidates.name, dict[str, float]()
    if len(known.found):
        metrics = dict(with_interval(f"steps/{name}/first_error_found", known.found))
        for rule in ("reference", "position", "chance")[not scored.has_reference :]:
            theirs = getattr(known, rule)
            metrics[f"steps/{name}/first_error_by_{rule}"] = float(theirs.mean())
            metrics |= with_interval(f"gain/{name}/first_error-{rule}", known.found - theirs)
    metrics |= _found_by_kind(candidates, scored)
    if not np.array_equal(scored.valid, scored.reference_valid):
        return metrics  # an outcome model scores last steps only: its AUC and F1 would not compare with those of others
    labelled, rows = _checked(candidates)
    steps, valid = scored.steps[rows], scored.valid[rows]
    right, wrong = judged_steps(valid, labelled.first_error)
    f1 = cross_fitted_f1(steps, valid, labelled.first_error, labelled.problem)
    values = {"auc": auc(steps[right], steps[wrong]), "f1": f1}
    return metrics | {f"steps/{name}/{key}": value for key, value in values.items() if not np.isnan(value)}


MOST_KINDS = 12  # more are texts in free words, not kinds


def _found_by_kind(candidates: CandidateSet, scored: Scored) -> dict[str, float]:
    """The share of first wrong steps found, for each kind of error; kinds that differ in punctuation are one."""
    kinds: dict[str, list[str]] = {}
    for kind in sorted({kind for g in candidates.groups for r in g.rollouts if (kind := r.first_error_kind)}):
        kinds.setdefault("-".join(re.findall(r"\w+", kind.lower())) or "other", []).append(kind)
    if len(kinds) > MOST_KINDS:
        return {}
    found = {part: located(candidates, scored, of_part).found for part, of_part in kinds.items()}
    return {
        f"steps/{candidates.name}/{part}/first_error_found": float(np.nanmean(values))
        for part, values in found.items()
        if not np.isnan(values).all()
    }


def _checked(candidates: CandidateSet) -> tuple[Known, NDArray[np.intp]]:
    """Responses with labelled steps and their rows in ``Scored``; none if other steps were scored."""
    known = Known.of(candidates.groups if candidates.own_steps else ())
    return known, candidates.source[known.at]


def located(candidates: CandidateSet, scored: Scored, kinds: Sequence[str] | None = None) -> Located:
    """How often rewards, and three rules without training, find the first wrong step. Ties share a hit.

    With ``kinds``, only responses count whose first wrong step has an error of one of these kinds.
    """
    known, rows = _checked(candidates)
    counted = (known.first_error >= 0) & scored.valid[rows].any(1)
    if kinds is not None:
        counted &= np.array([r.first_error_kind in kinds for g in candidates.groups for r in g.rollouts])[known.at]
    error, rows = known.first_error[counted], rows[counted]
    group = np.repeat(np.arange(len(candidates.groups)), [len(g.rollouts) for g in candidates.groups])
    group = group[known.at[counted]]
    errors = Counter(error.tolist())
    reference = scored.reference_steps[rows], scored.reference_valid[rows]
    hits = (
        _hits(scored.steps[rows], scored.valid[rows], error),
        _hits(*reference, error) if scored.has_reference else np.full(len(rows), np.nan),
        error == min(errors, key=lambda e: (-errors[e], e), default=0),
        1 / reference[1].sum(1),
    )
    out = np.full((4, len(candidates.groups)), np.nan)
    for p in np.unique(group):
        out[:, p] = [of_rule[group == p].mean() for of_rule in hits]
    return Located(*out)


def _hits(steps: Floats, valid: NDArray[np.bool_], error: NDArray[np.intp]) -> Floats:
    """[R] 1 when ``error`` alone has the lowest reward, a share of it when others have it too, 0 if it was cut off."""
    share = np.pad(lowest_share(steps, valid), ((0, 0), (0, 1)))
    return share[np.arange(len(error)), np.minimum(error, steps.shape[1])]


def with_interval(name: str, per_problem: Floats) -> Iterator[tuple[str, float]]:
    """Yield the mean and a 95 % bootstrap interval over problems; no interval for a single problem."""
    yield name, float(per_problem.mean())
    if len(per_problem) > 1:
        yield from zip((f"{name}/low", f"{name}/high"), bootstrap_interval(per_problem), strict=True)
