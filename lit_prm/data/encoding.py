"""Encoder: from groups to token ids, with the chat template, an exact prompt boundary and the step of every token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lit_prm.data.batch import Encoded
from lit_prm.data.chat import Chat
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import EachToken, StepRule, shifted, step_of_tokens

if TYPE_CHECKING:  # evaluation and its metrics import this file; importing transformers takes 4 CPU-s
    from transformers import PreTrainedTokenizerBase


class Encoder:
    """Turns groups into ``Encoded`` rows with one tokenizer, chat template and step rule.

    The prompt is what the chat template renders with its generation prompt. The response follows it unchanged, then
    the end of turn, unless the response has it already. Its tokens are those after the prompt's tokens, up to and
    including the end-of-turn token. If the prompt's tokens are not a prefix of all tokens, prompt and response are
    tokenised apart.

    ``prompt_template`` wraps prompts that are strings, e.g. "Solve and box the answer: {prompt}". With ``spans`` the
    rows also hold every token's characters.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        steps: StepRule,
        *,
        max_length: int = 2048,
        prompt_template: str = "{prompt}",
        spans: bool = False,
    ) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} gives no character offsets, which step ends are computed from. "
                "Use the tokenizer's fast version."
            )
        if "{prompt}" not in prompt_template:
            raise ValueError(
                f"prompt_template {prompt_template!r} has no {{prompt}}, the place of the problem. Add {{prompt}}."
            )
        self.tokenizer = tokenizer
        self.chat = Chat(tokenizer, prompt_template)
        self.steps = steps
        self.max_length = max_length
        self.prompt_template = prompt_template
        self.spans = spans
        self._special = frozenset(tokenizer.all_special_ids)  # the property builds a list at every call

    @property
    def identity(self) -> str:
        """Hash of everything that the encoded ids and steps depend on."""
        facts = (type(self.steps).__name__, sorted(map(str, vars(self.steps).items())), self.max_length)
        text = (tokenizer_identity(self.tokenizer), self.prompt_template)
        return hashlib.sha256(repr((facts, text)).encode()).hexdigest()

    def prompt_lengths(self, groups: Sequence[Group]) -> list[int]:
        """Number of tokens of every group's prompt, also above ``max_length``."""
        return [len(ids) for ids in self._prompt_ids(self.chat.heads([group.problem for group in groups]))]

    def fitting(self, groups: Sequence[Group]) -> list[Group]:
        """The groups whose prompt leaves room for a response."""
        return [g for g, size in zip(groups, self.prompt_lengths(groups), strict=True) if size < self.max_length]

    def written_out(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with every response as text; what ``encode`` encodes, and what spans count characters of.

        A response that is a message with more than text becomes what the chat template writes for that message.
        """
        return [self.chat.written_out(group) for group in groups]

    def encode(self, groups: Sequence[Group]) -> list[Encoded]:
        """The encoded responses of all groups, in order; ``row`` counts them from 0."""
        groups = self.written_out(groups)
        heads = self.chat.heads([group.problem for group in groups])
        prompts = self._prompt_ids(heads)
        self._refuse_too_long(groups, prompts)
        owned = [(g, rollout) for g, group in enumerate(groups) for rollout in group.rollouts]
        texts = [heads[g] + rollout.response + self.chat.end for g, rollout in owned]
        rows = []
        for row, (text, (g, rollout), ids, offsets) in enumerate(
            zip(texts, owned, *self._tokenize(texts), strict=True)
        ):
            start = len(heads[g])
            if list(ids[: len(prompts[g])]) != prompts[g]:
                ids, offsets = self._apart(prompts[g], text, start)
            rows.append(self._row(row, g, rollout, start, len(prompts[g]), ids, offsets))
        return rows

    def _apart(self, prompt: Sequence[int], text: str, start: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and offsets of prompt and response tokenised separately, as the response was sampled.

        Otherwise a tokenizer may merge the prompt's end with the response's start.
        """
        (ids,), (offsets,) = self._tokenize([text[start:]], special=False)
        return [*prompt, *ids], [*[(0, 0)] * len(prompt), *((a + start, b + start) for a, b in offsets)]

    def _prompt_ids(self, heads: list[str]) -> list[list[int]]:
        """The ids of prompts, without the end that some tokenizers add to every text."""
        every = [list(zip(*of_head, strict=True)) for of_head in zip(*self._tokenize(heads), strict=True)]
        for tokens in every:
            while len(tokens) > 1 and tokens[-1][0] in self._special and tokens[-1][1][0] == tokens[-1][1][1]:
                tokens.pop()
        return [[token for token, _ in tokens] for tokens in every]

    def _refuse_too_long(self, groups: Sequence[Group], prompts: Sequence[Sequence[int]]) -> None:
        long = {g.problem.id: len(ids) for g, ids in zip(groups, prompts, strict=True) if len(ids) >= self.max_length}
        if long:
            named = [f"problem {name}: its prompt has {size} tokens" for name, size in islice(long.items(), 20)]
            raise ValueError(
                f"{'; '.join(named)}{'; ...' * (len(long) > 20)}, max_length is {self.max_length}. Raise "
                f"data.max_length or drop the {len(long)} of {len(groups)} problems (data.bad_rows: skip)."
            )

    @property
    def own_steps(self) -> bool:
        """True if steps are pieces of text, so that step labels of a file apply; False if every token is a step."""
        return not isinstance(self.steps, EachToken)

    def steps_from(self, rollout: Rollout) -> str:
        """Where a response's steps come from: "of the file", or the name of the step rule."""
        return "of the file" if rollout.steps and self.own_steps else type(self.steps).__name__

    def prompt_text(self, problem: Problem) -> str:
        """The text that a sampler continues with a response."""
        return self.chat.heads([problem])[0]

    def _tokenize(self, texts: list[str], special: bool = True) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Ids and character offsets; a chat template writes the special tokens itself, so none are added."""
        if not texts:
            return [], []
        added = special and not self.tokenizer.chat_template
        encoded = self.tokenizer(
            texts, add_special_tokens=added, return_offsets_mapping=True, verbose=False,
            return_attention_mask=False, return_token_type_ids=False,  # lists that nobody reads
        )  # fmt: skip
        return encoded["input_ids"], encoded["offset_mapping"]

    def _row(
        self,
        row: int,
        group: int,
        rollout: Rollout,
        start: int,
        n: int,
        ids: Sequence[int],
        offsets: Sequence[tuple[int, int]],
    ) -> Encoded:
        """The row of a response that starts at character ``start`` of the text, behind ``n`` tokens of the prompt."""
        end = self._end_of_turn(ids, offsets, n, start + self.chat.said(rollout.response))
        kept = min(end, self.max_length)
        spans = [(a - start, b - start) for a, b in offsets[n:kept]]
        return Encoded(
            ids=np.asarray(ids[:kept], dtype=np.int32),
            prompt_length=n,
            step=self._steps(rollout, spans),
            label=float("nan") if rollout.correct is None else float(rollout.correct),
            group=group,
            row=row,
            truncated=kept < end,
            step_labels=np.asarray(rollout.step_labels or (), dtype=np.float32),
            spans=_within(spans, len(rollout.response)) if self.spans else np.zeros((0, 2), dtype=np.int32),
        )

    def _end_of_turn(self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], begin: int, text_end: int) -> int:
        """Index after the end-of-turn token: the first special token after the response. What follows is not scored."""
        spans = enumerate(offsets[begin:], begin)
        after = next((i for i, (a, b) in spans if a >= text_end and b > a), len(ids))
        return next((i + 1 for i in range(after, len(ids)) if ids[i] in self._special), len(ids))

    def _steps(self, rollout: Rollout, offsets: list[tuple[int, int]]) -> NDArray[np.int32]:
        if not self.own_steps:
            return np.arange(len(offsets), dtype=np.int32)
        steps, behind = self.split(rollout), self.steps.tokens_behind
        of_token = (
            step_of_tokens([len(s) for s in steps], offsets) if behind is None else shifted(steps, offsets, behind)
        )
        return np.asarray(of_token, dtype=np.int32)

    def split(self, rollout: Rollout) -> tuple[str, ...]:
        """The steps of a response: those of its file, else of the step rule; one piece if every token is a step."""
        return rollout.steps or tuple(self.steps.split(rollout.response))


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what the tokens of a text depend on: vocabulary and rules, special tokens, chat template."""
    facts: Any = tokenizer
    special = (facts.eos_token, sorted(facts.all_special_ids))
    text = repr((facts.backend_tokenizer.to_str(), special, str(facts.chat_template)))
    return hashlib.sha256(text.encode()).hexdigest()


def _within(spans: Sequence[tuple[int, int]], length: int) -> NDArray[np.int32]:
    """The spans clipped to [0, length]; tokens after the response, such as the end of turn, get (length, length)."""
    return np.clip(np.asarray(spans, dtype=np.int32).reshape(-1, 2), 0, length)


def length_quantiles(lengths: Iterable[int]) -> dict[str, int]:
    """Quantiles of token lengths for the data report, by name; empty without lengths."""
    values = np.fromiter(lengths, dtype=np.int64)
    points = {"min": 0.0, "5%": 0.05, "50%": 0.5, "95%": 0.95, "99%": 0.99, "max": 1.0}
    return {name: int(np.quantile(values, q)) for name, q in points.items()} if len(values) else {}
