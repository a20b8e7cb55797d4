"""Small candidate sets with made-up scores, for tests of judging and recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerFast

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored

SUBJECTS = ("Algebra", "Number Theory", "Counting & Probability")


def rollout(
    answer: str | None, correct: bool, steps: int = 3, first_error: int | None = None, tag: str = ""
) -> Rollout:
    """A response of ``steps`` steps; equal arguments give equal responses."""
    lines = [f"Step {i} {tag}\n\n" for i in range(steps - 1)] + [f"it is {answer}"]
    return Rollout(response="".join(lines), steps=tuple(lines), correct=correct, answer=answer, first_error=first_error)


def groups(sizes: Sequence[int] = (5, 4, 5, 2), seed: int = 0) -> list[Group]:
    """Problems whose right answer is 7, with candidates of 1-4 steps that say 7, 8, 9 or nothing."""
    rng = np.random.default_rng(seed)
    made = []
    for p, size in enumerate(sizes):
        problem = Problem(prompt=f"Problem {p}?", id=f"p{p}", answer="7", subject=SUBJECTS[p % 3], level=1 + p % 2)
        made.append(Group(problem=problem, rollouts=tuple(_drawn(rng, i) for i in range(size))))
    return made


def _drawn(rng: np.random.Generator, number: int) -> Rollout:
    answer = [None, "7", "7", "8", "9"][rng.integers(5)]
    steps = int(rng.integers(1, 5))
    first_error = -1 if answer == "7" else int(rng.integers(steps))
    return rollout(answer, answer == "7", steps, first_error, tag=f"t{number}")


def candidate_set(tokenizer: PreTrainedTokenizerFast, of: Sequence[Group] | None = None) -> CandidateSet:
    return CandidateSet.of("set", groups() if of is None else of, Encoder(tokenizer, BlankLine()))


def scored(candidates: CandidateSet, seed: int = 1, decimals: int = 1) -> Scored:
    """Random step rewards, rounded so that there are ties; rewards are their sums."""
    rng = np.random.default_rng(seed)
    counts = [int(e.step.max()) + 1 for e in candidates.encoded]
    valid = np.arange(max(counts)) < np.array(counts)[:, None]
    steps = np.where(valid, rng.normal(size=valid.shape).round(decimals), 0.0)
    reference = np.where(valid, -rng.random(valid.shape).round(decimals), 0.0)
    return Scored(steps.sum(1), steps, valid, reference, valid)
