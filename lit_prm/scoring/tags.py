"""Scorer for released tag-token PRMs: the log-odds that each step is right, in the model's own input format."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from lit_prm.data.batch import Encoded, collate
from lit_prm.data.batching import TokenBudget
from lit_prm.data.encoding import tokenizer_identity
from lit_prm.data.records import Group, Problem
from lit_prm.data.steps import StepRule
from lit_prm.models.language_model import Dtype, load_config, load_tokenizer
from lit_prm.models.weights import weights_hash
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.tag_styles import STYLES, TagStyle


class TagScorer(Scorer):
    """A step's reward is the log-odds of P(step right), read at the step's own tag; a response's is its last step's.

    Loads the released model ``source``. Without ``style``, ``style_of`` infers it. The aggregate ``product`` takes step
    rewards as log-odds, so it is the product of the authors' probabilities. A step whose tag lies beyond
    ``max_length`` tokens has no reward. If not even the first tag fits, or there is no step, the response's reward is
    0: even odds.
    """

    def __init__(
        self,
        source: str,
        style: str | None,
        steps: StepRule,
        *,
        max_length: int = 2048,
        dtype: Dtype = "float32",
        device: str = "cpu",
        prompt_template: str = "{prompt}",
        budget: int = 8192,
    ) -> None:
        if "{prompt}" not in prompt_template:
            raise ValueError(f"prompt_template {prompt_template!r} has no {{prompt}} to fill in. Add it.")
        self.style = _style(source, style)(load_tokenizer(source))
        self.judge = self.style.load(source, dtype).to(device)
        self.steps = steps
        self.max_length = max_length
        self.prompt_template = prompt_template
        self.budget = budget  # padded tokens of a batch
        self.device = device
        self.rounding = (device, budget)
        self.identity = {
            "policy": source,
            "policy_weights": weights_hash(source),
            "template": tokenizer_identity(self.style.tokenizer),
            "style": self.style.name,
            "step_rewards": "log-odds of P(step right)",
            "steps": {"class_path": type(steps).__name__, "init_args": _options(steps)},
            "max_length": max_length,
            "prompt_template": prompt_template,
            "dtype": dtype,
            "aggregate": self.style.aggregate,
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
        return [[_rewards(cut, next(odds), next(sizes), next(truncated)) for cut in cuts] for cuts in steps]

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
        ids, at = self.style.lay_out(template.replace("{prompt}", problem.text), steps)
        step = np.full(len(ids), -1, dtype=np.int32)
        step[at] = np.arange(len(at))
        kept = np.asarray(ids[: self.max_length], dtype=np.int32)
        cut = bool(at) and at[-1] >= self.max_length
        return Encoded(kept, 0, step[: self.max_length], float("nan"), 0, 0, truncated=cut)

    def _log_odds(self, rows: Sequence[Encoded]) -> list[list[float]]:
        """Log-odds of the steps that fit, for every row. Longest rows go first, ``budget`` tokens at a time."""
        by_row: list[list[float]] = [[] for _ in rows]
        for cut in TokenBudget(rows, self.budget):
            batch = collate([rows[i] for i in cut.rows])
            read = batch.in_response
            odds = self.judge(batch.ids.to(self.device), read.to(self.device)).float().tolist()
            ends = accumulate(read.sum(1).tolist(), initial=0)
            for i, (a, b) in zip(cut.rows, pairwise(ends), strict=True):
                by_row[i] = odds[a:b]
        return by_row

    def _tokens(self, responses: list[str]) -> list[int]:
        """Numbers of tokens of the responses' own text, without tags and step numbers."""
        if not responses:
            return []
        encoded = self.style.tokenizer(responses, add_special_tokens=False, verbose=False)["input_ids"]
        return [len(ids) for ids in encoded]


def style_of(source: str) -> str | None:
    """The style of a model by its architecture or released name; None if both are unknown."""
    config = load_config(source)
    architectures, model_name = set(getattr(config, "architectures", None) or ()), Path(source).name.lower()
    for name, style in STYLES.items():
        if architectures & set(style.architectures) or any(part in model_name for part in style.released_as):
            return name
    return None


def _style(source: str, given: str | None) -> type[TagStyle]:
    name = given or style_of(source)
    if name not in STYLES:
        problem = f"style {given!r} is unknown" if given else f"Neither name nor config of {source} tells its style"
        raise ValueError(f"{problem}. Give one of --style {', '.join(STYLES)}.")
    return STYLES[name]


def _options(steps: StepRule) -> dict[str, str]:
    """The step rule's attributes as JSON."""
    return {name: value.pattern if isinstance(value, re.Pattern) else str(value) for name, value in vars(steps).items()}


def _rewards(steps: Sequence[str], odds: Sequence[float], tokens: int, truncated: bool) -> Rewards:
    known = [x if math.isfinite(x) else None for x in odds]
    each = (*known, *[None] * (len(steps) - len(odds)))
    return Rewards(
        reward=known[-1] if odds else 0.0,
        step_spans=tuple(pairwise(accumulate(map(len, steps), initial=0))),
        step_rewards=each,
        step_values=each,
        tokens=tokens,
        truncated=truncated,
    )
