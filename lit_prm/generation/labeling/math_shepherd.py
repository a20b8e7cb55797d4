"""Math-Shepherd: the label of a step is the share of its completions that are right."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate, islice
from typing import Any

import torch

from lit_prm.answers import is_correct, told
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.generation.labeling.base import Labeler, Labelled, refuse_tokens_as_steps, steps_of
from lit_prm.generation.labeling.completions import Completions, Counts, Part
from lit_prm.generation.local_sampler import ROWS, LocalSampler
from lit_prm.generation.outcomes import gold
from lit_prm.models.language_model import Dtype

OUTCOME_READS = 3  # passes over a rollout for an implicit reward: sampling, reference, training
STEP_READS = 2  # passes over a rollout for a model of steps: sampling, training


class MathShepherd(Labeler):
    """Labels steps by completing the response from their ends (Wang et al. 2024, section 3.3).

    The model ``completer`` continues the response ``completions`` times from the end of every step but the last. The
    soft label is the share of completions whose final answer is right; the ``hard`` label is 1 if any is right. The
    label of the last step is the outcome of the response. Equal prefixes of a problem are completed once. The file at
    ``path`` stores the counts, which hard labels, soft labels and all budgets share.

    ``budget`` limits the tokens of sampling, labelling and training. It is a multiple of the tokens that an implicit
    reward needs for all given responses: each token three times, for sampling, the reference and training. Budget 1
    means as many tokens as an implicit reward. Problems are labelled as a whole, in an order that depends
    on ``seed`` and their prompts. The first problem that exceeds the budget and all problems after it are dropped.
    """

    def __init__(
        self,
        completer: str,
        path: str,
        completions: int = 8,
        hard: bool = True,
        budget: float | None = None,
        temperature: float = 0.7,
        max_new_tokens: int = 1024,
        workers: int = 2,
        seed: int = 0,
        dtype: Dtype = "float32",
    ) -> None:
        if not 1 <= completions <= ROWS:
            raise ValueError(f"{completions} completions of a step are not between 1 and {ROWS}. The paper uses 8.")
        if budget is not None and not budget > 0:
            raise ValueError(
                f"budget {budget} is not positive. It is a multiple of the tokens of outcome labels; null: no limit."
            )
        self.completer, self.path = completer, path
        self.completions, self.hard, self.budget = completions, hard, budget
        self.seed = seed
        self.sampling: dict[str, Any] = {
            "temperature": temperature, "max_new_tokens": max_new_tokens, "workers": workers, "seed": seed,
            "dtype": dtype,
        }  # fmt: skip

    def label(self, groups: Sequence[Group], encoder: Encoder, device: torch.device) -> Labelled:
        refuse_tokens_as_steps(encoder)
        tokens = _tokens(groups, encoder)
        allowed = math.inf if self.budget is None else self.budget * OUTCOME_READS * sum(tokens)
        taken = 0
        labelled: dict[int, Group] = {}
        spent = Counter(generated=0, prompt=0)
        with told("labels of steps"), closing(self._counted(groups, encoder, device)) as counted:
            for g, counts in counted:
                own = Counter(generated=sum(c.generated for c in counts.values()))
                own.update(prompt=sum(c.prompt for c in counts.values()))
                cost = own.total() + STEP_READS * tokens[g]
                if taken + cost > allowed:
                    break
                taken += cost
                spent.update(own)
                labelled[g] = self._labelled(groups[g], encoder, counts)
        if groups and not labelled:
            raise ValueError(
                f"budget {self.budget} allows {allowed:.0f} tokens, but the first problem alone takes {cost}. "
                "Raise the budget or lower completions."
            )
        return Labelled([labelled[g] for g in sorted(labelled)], dict(spent))

    def _counted(
        self, groups: Sequence[Group], encoder: Encoder, device: torch.device
    ) -> Generator[tuple[int, dict[str, Counts]], None, None]:
        """Yield the index of each group and the counts of its prefixes, in the order of labelling."""
        order = sorted(range(len(groups)), key=lambda g: (self._place(groups[g].problem), g))
        parts = [self._parts(groups[g], encoder) for g in order]
        sampler = LocalSampler(self.completer, **self.sampling, device=str(device))
        store = Completions(sampler, self.path, self.completions)
        with closing(store.of([part for of_group in parts for part in of_group])) as counts:
            for g, of_group in zip(order, parts, strict=True):
                of_prefix: dict[str, Counts] = {}
                for of_part in islice(counts, len(of_group)):
                    of_prefix |= of_part
                yield g, of_prefix

    def _place(self, problem: Problem) -> bytes:
        return hashlib.sha256(f"{self.seed} {problem.prompt}".encode()).digest()

    def _parts(self, group: Group, encoder: Encoder) -> list[Part]:
        """The distinct prefixes of a group's responses, in batches of similar length."""
        prompt, answer = encoder.prompt_text(group.problem), gold(group.problem)
        distinct = {prefix for r in group.rollouts for prefix in _prefixes(steps_of(r, encoder))}
        prefixes = sorted(distinct, key=lambda prefix: (len(prefix), prefix))
        size = ROWS // self.completions
        return [Part(prompt, answer, tuple(prefixes[i : i + size])) for i in range(0, len(prefixes), size)]

    def _labelled(self, group: Group, encoder: Encoder, counts: Mapping[str, Counts]) -> Group:
        answer = gold(group.problem)
        return replace(group, rollouts=tuple(self._rollout(r, answer, encoder, counts) for r in group.rollouts))

    def _rollout(self, rollout: Rollout, answer: str, encoder: Encoder, counts: Mapping[str, Counts]) -> Rollout:
        steps = steps_of(rollout, encoder)
        outcome = is_correct(rollout.response, answer) if rollout.correct is None else rollout.correct
        before = (self._label(counts[prefix].right) for prefix in _prefixes(steps))
        labels = (*before, float(outcome))[: len(steps)]
        return replace(rollout, steps=steps, step_labels=labels, error_kinds=None)

    def _label(self, right: int) -> float:
        return float(right > 0) if self.hard else right / self.completions


def _tokens(groups: Sequence[Group], encoder: Encoder) -> list[int]:
    """Number of tokens of each group, in prompts and responses."""
    tokens = [0] * len(groups)
    for row in encoder.encode(groups):
        tokens[row.group] += len(row)
    return tokens


def _prefixes(steps: Sequence[str]) -> list[str]:
    """Prefixes of the response, up to the end of every step but the last."""
    return list(accumulate(steps))[:-1]
