"""Encoder: from groups to token ids, with the chat template, an exact prompt boundary and the step of every token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lit_prm.data.batch import Encoded
from lit_prm.data.records import Group, Message, Problem, Rollout
from lit_prm.data.steps import EachToken, StepRule, step_of_tokens

if TYPE_CHECKING:  # evaluation and its metrics import this file; importing transformers takes 4 CPU-s
    from transformers import PreTrainedTokenizerBase

_SENTINEL = "\u2063response\u2063"  # invisible separators: no template transforms them, no response holds them


class Encoder:
    """Turns groups into ``Encoded`` rows with one tokenizer, chat template and step rule.

    The response goes into the chat template unchanged. Its tokens are those after the prompt's tokens, up to and
    including the end-of-turn token. If the prompt's tokens are not a prefix of all tokens, the boundary lies inside a
    token and ``encode`` raises ValueError.

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
        heads = [head for head, _ in self._rendered([group.problem for group in groups])]
        return [len(ids) for ids in self._tokenize(heads)[0]]

    def encode(self, groups: Sequence[Group]) -> list[Encoded]:
        """The encoded responses of all groups, in order; ``row`` counts them from 0."""
        rendered = self._rendered([group.problem for group in groups])
        prompts = self._tokenize([head for head, _ in rendered])[0]
        texts, owners = [], []
        for g, (group, (head, tail)) in enumerate(zip(groups, rendered, strict=True)):
            texts += [head + rollout.response + tail for rollout in group.rollouts]
            owners += [(g, rollout) for rollout in group.rollouts]
        rows = []
        for row, (text, (g, rollout), ids, offsets) in enumerate(
            zip(texts, owners, *self._tokenize(texts), strict=True)
        ):
            start = len(rendered[g][0])
            if list(ids[: len(prompts[g])]) != list(prompts[g]) and text[start : start + 1].isspace():
                ids, offsets = self._apart(prompts[g], text, start) or (ids, offsets)
            rows.append(self._row(row, g, groups[g].problem, rollout, start, prompts[g], ids, offsets))
        return rows

    def _apart(self, prompt: Sequence[int], text: str, start: int) -> tuple[list[int], list[tuple[int, int]]] | None:
        """Ids and offsets of prompt and response tokenised separately, as the response was sampled.

        Otherwise a tokenizer may merge white space at the response's start with the line break at the prompt's end.
        None if decoding the response's ids does not give back its text.
        """
        encoded = self.tokenizer(text[start:], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids: list[int] = encoded["input_ids"]
        if self.tokenizer.decode(ids, clean_up_tokenization_spaces=False) != text[start:]:
            return None
        offsets = [(a + start, b + start) for a, b in encoded["offset_mapping"]]
        return [*prompt, *ids], [*[(0, 0)] * len(prompt), *offsets]

    def render(self, problem: Problem) -> tuple[str, str]:
        """The text before and the text after a response to the problem, by the chat template if there is one."""
        return self._rendered([problem])[0]

    def _rendered(self, problems: Sequence[Problem]) -> list[tuple[str, str]]:
        """``render`` of every problem; the template is applied to all at once, which takes half the time."""
        chats = [self._messages(problem) for problem in problems]
        if not self.tokenizer.chat_template or not chats:
            return [("\n".join(m["content"] for m in chat) + "\n", self.tokenizer.eos_token or "") for chat in chats]
        heads = self._apply(chats, add_generation_prompt=True)
        answered = [[*chat, {"role": "assistant", "content": _SENTINEL}] for chat in chats]
        wholes = self._apply(answered, add_generation_prompt=False)
        return [_around(*texts) for texts in zip(problems, heads, wholes, strict=True)]

    @property
    def own_steps(self) -> bool:
        """True if steps are pieces of text, so that step labels of a file apply; False if every token is a step."""
        return not isinstance(self.steps, EachToken)

    def steps_from(self, rollout: Rollout) -> str:
        """Where a response's steps come from: "of the file", or the name of the step rule."""
        return "of the file" if rollout.steps and self.own_steps else type(self.steps).__name__

    def prompt_text(self, problem: Problem) -> str:
        """The text that a sampler continues with a response."""
        return self.render(problem)[0]

    def _messages(self, problem: Problem) -> list[Message]:
        if isinstance(problem.prompt, str):
            return [{"role": "user", "content": self.prompt_template.replace("{prompt}", problem.prompt)}]
        return list(problem.prompt)

    def _apply(self, chats: Sequence[Sequence[Message]], *, add_generation_prompt: bool) -> list[str]:
        apply: Any = self.tokenizer.apply_chat_template
        texts: list[str] = apply(list(map(list, chats)), tokenize=False, add_generation_prompt=add_generation_prompt)
        return texts

    def _tokenize(self, texts: list[str]) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Ids and character offsets; a chat template writes the special tokens itself, so none are added."""
        if not texts:
            return [], []
        special = not self.tokenizer.chat_template
        encoded = self.tokenizer(
            texts, add_special_tokens=special, return_offsets_mapping=True, verbose=False,
            return_attention_mask=False, return_token_type_ids=False,  # lists that nobody reads
        )  # fmt: skip
        return encoded["input_ids"], encoded["offset_mapping"]

    def _row(
        self,
        row: int,
        group: int,
        problem: Problem,
        rollout: Rollout,
        start: int,
        prompt: Sequence[int],
        ids: Sequence[int],
        offsets: Sequence[tuple[int, int]],
    ) -> Encoded:
        n = len(prompt)
        if list(ids[:n]) != list(prompt):
            at = next(i for i, (a, b) in enumerate(zip([*ids, None], prompt, strict=False)) if a != b)
            raise ValueError(
                f"problem {problem.id}: the tokens of a response do not follow its prompt's: token {at} is "
                f"{self._show(ids[at : at + 1])} with the response and {self._show(prompt[at : at + 1])} without it. "
                "End the prompt (or its template) with a line break or a special token."
            )
        if n >= self.max_length:
            raise ValueError(
                f"problem {problem.id}: its prompt has {n} tokens, max_length is {self.max_length}. "
                "Raise data.max_length or drop the problem."
            )
        end = self._end_of_turn(ids, offsets, n, start + len(rollout.response))
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
        return np.asarray(step_of_tokens([len(s) for s in self.split(rollout)], offsets), dtype=np.int32)

    def split(self, rollout: Rollout) -> tuple[str, ...]:
        """The steps of a response: those of its file, else of the step rule; one piece if every token is a step."""
        return rollout.steps or tuple(self.steps.split(rollout.response))

    def _show(self, ids: Sequence[int]) -> str:
        return repr(self.tokenizer.decode(list(ids))) if ids else "nothing"


def _around(problem: Problem, head: str, whole: str) -> tuple[str, str]:
    """The text before and after the sentinel in ``whole``, which must continue ``head``."""
    before, sentinel, tail = whole.partition(_SENTINEL)
    if not sentinel or not before.startswith(head):
        raise ValueError(
            f"problem {problem.id}: the chat template's text before the response {before[-80:]!r} does not "
            f"continue its generation prompt {head[-80:]!r}. Use the template the model was trained with."
        )
    return before, tail


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
