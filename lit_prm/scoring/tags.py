"""Scorer for released PRMs: the log-odds that each step is right, in the model's own input format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from transformers import PreTrainedTokenizerBase

from lit_prm.data.batch import Encoded, collate
from lit_prm.data.batching import TokenBudget
from lit_prm.data.encoding import tokenizer_identity
from lit_prm.data.records import Group, Problem
from lit_prm.data.steps import StepRule
from lit_prm.models.language_model import Dtype, load_tokenizer
from lit_prm.models.weights import weights_hash
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.tag_styles import style_named


class TagScorer(Scorer):
    """A step's reward is the log-odds of P(step right), read where the style says.

    The reward of a response is that of its last step that was judged.

    Loads the released model ``source``. Without ``style``, ``style_of`` infers it; ``separator`` replaces the one
    behind each step, ``steps`` the style's rule, and ``aggregate`` that of its authors. The aggregates ``product`` and
    ``mean-probability`` take step rewards as log-odds, so they are those of the authors' probabilities. A step that is
    judged beyond ``max_length`` tokens has no reward. If not even the first judgement fits, or there is no step, the
    response's reward is 0: even odds. An outcome model gives one number, the reward of the response and of its last
    step; there is none if the response is cut.
    """

    def __init__(
        self,
        source: str,
        style: str | None,
        steps: StepRule | None = None,
        *,
        separator: str | None = None,
        aggregate: str | None = None,
        max_length: int = 2048,
        dtype: Dtype = "float32",
        device: str = "cpu",
        prompt_template: str = "{prompt}",
        budget: int = 8192,
    ) -> None:
        if "{prompt}" not in prompt_template:
            raise ValueError(f"prompt_template {prompt_template!r} has no {{prompt}} to fill in. Add it.")
        self.style = style_named(source, style)
        if separator is not None:
            self.style = self.style.separated_by(separator)
        if aggregate is not None:
            self.style.refuse_aggregate(aggregate)
        self.tokenizer = _fast(load_tokenizer(source))
        self.judge = self.style.head(source, dtype, self.tokenizer).to(device)
        self.steps = steps or self.style.steps()
        self.max_length = max_length
        self.prompt_template = prompt_template
        self.budget = budget  # padded tokens of a batch
        self.device = device
        self.rounding = (device, budget)
        self.identity = {
            "policy": source,
            "policy_weights": weights_hash(source),
            "template": tokenizer_identity(self.tokenizer),
            "style": self.style.name,
            "step_rewards": "reward of the response" if self.style.outcome else "log-odds of P(step right)",
            **({} if separator is None else {"separator": separator}),
            "steps": {"class_path": type(self.steps).__name__, "init_args": _options(self.steps)},
            "max_length": max_length,
            "prompt_template": prompt_template,
            "dtype": dtype,
            "aggregate": aggregate or self.style.aggregate,
        }

    def score(self, groups: Sequence[Group]) -> list[list[Rewards]]:
        for group in self.written_out(groups):
            self._refuse_history(group.problem)
        steps = [
            [list(r.steps or self.steps.split(r.response)) for r in group.rollouts] for group in groups
        ]  # [G][K] lists of steps
        rows = [self._row(g.problem, cut) for g, cuts in zip(groups, steps, strict=True) for cut in cuts]
        odds = iter(self._log_odds(rows))
        sizes = iter(self._tokens([r.response for g in groups for r in g.rollouts]))
        truncated = iter(row.truncated for row in rows)
        nothing = None if self.style.outcome else 0.0  # even odds
        return [[_rewards(cut, next(odds), next(sizes), next(truncated), nothing) for cut in cuts] for cuts in steps]

    def check(self, groups: Sequence[Group]) -> None:
        for group in groups:
            self._refuse_history(group.problem)

    def _refuse_history(self, problem: Problem) -> None:
        """Raise ValueError for a conversation, of which the format would show the user's turns alone."""
        roles = [] if isinstance(problem.prompt, str) else [m["role"] for m in problem.prompt if m["role"] != "system"]
        if roles not in ([], ["user"]):
            raise ValueError(
                f"Problem {problem.id} is a conversation of {', '.join(roles)}, and the format {self.style.name} takes "
                "one question. Write the turns before it into the question, or leave the problem out."
            )

    def _row(self, problem: Problem, steps: Sequence[str]) -> Encoded:
        """A response as the model's input; ``step`` is k at the position that judges step k and -1 elsewhere."""
        template = self.prompt_template if isinstance(problem.prompt, str) else "{prompt}"  # a chat has its own
        ids, at = self.style.lay_out(self.tokenizer, template.replace("{prompt}", problem.text), steps)
        step = np.full(len(ids), -1, dtype=np.int32)
        step[list(at.values())] = list(at)
        kept = np.asarray(ids[: self.max_length], dtype=np.int32)
        cut = max(at.values(), default=0) >= self.max_length
        return Encoded(kept, 0, step[: self.max_length], float("nan"), 0, 0, truncated=cut)

    def _log_odds(self, rows: Sequence[Encoded]) -> list[dict[int, float]]:
        """Log-odds of the steps that fit, for every row. Longest rows go first, ``budget`` tokens at a time."""
        by_row: list[dict[int, float]] = [{} for _ in rows]
        for cut in TokenBudget(rows, self.budget):
            batch = collate([rows[i] for i in cut.rows])
            read = batch.in_response
            odds = self.judge(batch.ids.to(self.device), read.to(self.device)).float().tolist()
            ends = accumulate(read.sum(1).tolist(), initial=0)
            for i, (a, b) in zip(cut.rows, pairwise(ends), strict=True):
                by_row[i] = dict(zip(rows[i].step[rows[i].step >= 0].tolist(), odds[a:b], strict=True))
        return by_row

    def _tokens(self, responses: list[str]) -> list[int]:
        """Numbers of tokens of the responses' own text, without tags and step numbers."""
        if not responses:
            return []
        encoded = self.tokenizer(responses, add_special_tokens=False, verbose=False)["input_ids"]
        return [len(ids) for ids in encoded]


def _fast(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets, by which tags are located. Use the tokenizer's "
            "fast version."
        )
    return tokenizer


def _options(steps: StepRule) -> dict[str, str]:
    """The step rule's attributes as JSON."""
    return {name: value.pattern if isinstance(value, re.Pattern) else str(value) for name, value in vars(steps).items()}


def _rewards(
    steps: Sequence[str], odds: Mapping[int, float], tokens: int, truncated: bool, nothing: float | None
) -> Rewards:
    """``odds`` of the judged steps; ``nothing`` is the reward of a response without any."""
    each = tuple(x if math.isfinite(x := odds.get(k, math.nan)) else None for k in range(len(steps)))
    return Rewards(
        reward=each[max(odds)] if odds else nothing,
        step_spans=tuple(pairwise(accumulate(map(len, steps), initial=0))),
        step_rewards=each,
        step_values=each,
        tokens=tokens,
        truncated=truncated,
    )
