"""How released PRMs want a response written: question and steps as tokens, and where the model judges which step."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, cast

from transformers import PreTrainedTokenizerBase

_HERE = "\u2063tag\u2063"  # marks a tag's place while a chat template is applied; no template changes it


class TaggedInput(NamedTuple):
    """A response as a model's input."""

    ids: list[int]
    at: dict[int, int]  # step -> position whose output judges it; steps from 0, a step may be missing


class InputLayout(ABC):
    """Writes a response for a family of models. ``lay_out`` raises ValueError for a tokenizer of another family."""

    @abstractmethod
    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        """The tokens of question and steps, and the position of the answer for each step; the steps tile the response.

        White space at the ends of steps is stripped unless the class says otherwise.
        """


@dataclass(frozen=True)
class TaggedText(InputLayout):
    """Plain text: the question, then each step with the tag behind it, read at the tag's last token."""

    tag: str
    between: str = ""  # between a tag and the next step
    behind_question: str = " "
    numbered: bool = False  # "Step k: " before steps that have no number

    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        written = [_numbered(step, k) if self.numbered else step.strip() for k, step in enumerate(steps, 1)]
        parts = [f"{self.between if k else ''}{step}{self.tag}" for k, step in enumerate(written)]
        tag = token_ids(tokenizer, self.tag)[-1]
        return tagged(tokenizer, question + self.behind_question, parts, "", tag, special=True)


@dataclass(frozen=True)
class TaggedChat(InputLayout):
    """A chat of one turn each: the assistant's has a special token behind each step, read there."""

    tag: str
    system: str | None = None  # None: what the chat template writes without a system message

    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        turns = [("system", self.system), ("user", question), ("assistant", _HERE)]
        head, tail = _rendered(tokenizer, [{"role": r, "content": c} for r, c in turns if c is not None], 1)
        parts = [step.strip() + self.tag for step in steps]
        return tagged(tokenizer, head, parts, tail, token_ids(tokenizer, self.tag)[-1], special=False)


@dataclass(frozen=True)
class AnsweredTurns(InputLayout):
    """A chat: the user sends the question with step 1, then each step; the assistant answers ``+`` to each.

    Steps are read where the answer is predicted, one token before it.
    """

    behind_question: str = " "

    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        first, *others = [step.strip() for step in steps] or [""]
        messages = [f"{question}{self.behind_question}{first}" if steps else question, *others]
        turns = [{"role": r, "content": c} for text in messages for r, c in (("user", text), ("assistant", _HERE))]
        head, *between, tail = _rendered(tokenizer, turns, len(messages))
        answers = ["+", *(f"{text}+" for text in between)]
        ids, at = tagged(tokenizer, head, answers, tail, token_ids(tokenizer, "+")[-1], special=False)
        return TaggedInput(ids, {step: at[step] - 1 for step in range(len(steps))})


@dataclass(frozen=True)
class SeparateSteps(InputLayout):
    """The question and each step tokenized alone, the separator's tokens behind each step, read at the last of them."""

    separator: str

    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        start = [] if tokenizer.bos_token_id is None else [int(cast(int, tokenizer.bos_token_id))]
        ids, at = start + token_ids(tokenizer, question), dict[int, int]()
        for step, text in enumerate(steps):
            ids += token_ids(tokenizer, text.strip()) + token_ids(tokenizer, self.separator)
            at[step] = len(ids) - 1
        return TaggedInput(ids, at)


class EachLine(InputLayout):
    """Beginning of text, the question and a line break; then each line of the response alone, and a line break.

    Every line break is a judgement, that of a blank line too. A step's is that of the last line with text that ends in
    it, of a blank line if it has no text; a step in which no line ends has none. Nothing is stripped.
    """

    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        ids = token_ids(tokenizer, f"{tokenizer.bos_token or ''}{question}\n")
        line_break, of_step = token_ids(tokenizer, "\n")[-1], _step_of_characters(steps)
        at, blank, end = dict[int, int](), dict[int, int](), 0
        for line in "".join(steps).split("\n") if steps else ():
            ids += [*token_ids(tokenizer, line), line_break]
            end += len(line)
            last = end - 1 if line.strip() else end
            if last < len(of_step):
                (at if line.strip() else blank)[of_step[last]] = len(ids) - 1
            end += 1
        return TaggedInput(ids, dict(sorted((blank | at).items())))


class WholeResponse(InputLayout):
    """The conversation as the chat template writes it; without one, question, response and end of text joined.

    There is one judgement, of the last step: at the last token that is not the padding token, as transformers pools.
    """

    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        response, chat = "".join(steps), bool(tokenizer.chat_template)
        if chat:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
            text = str(cast(Any, tokenizer).apply_chat_template(turns, tokenize=False))
        else:
            end = str(tokenizer.eos_token or "")
            text = question + response + ("" if response.endswith(end) else end)
        ids = token_ids(tokenizer, text, special=not chat)
        judged = max((i for i, token in enumerate(ids) if token != tokenizer.pad_token_id), default=0)
        return TaggedInput(ids, {len(steps) - 1: judged} if steps else {})


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool = False) -> list[int]:
    """The tokens of a text, without special tokens unless ``special``."""
    return cast(list[int], tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def tagged(tokenizer: Any, head: str, parts: Sequence[str], tail: str, tag: int, *, special: bool) -> TaggedInput:
    """The tokens of the joined text, in which each part ends with a tag; answers are at the tags' last tokens.

    Raises ValueError if one of these tokens is not ``tag``, so that the model would be read at a wrong place.
    """
    text, ends = head + "".join(parts) + tail, list(accumulate(map(len, parts), initial=len(head)))[1:]
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    ids = cast(list[int], encoded["input_ids"])
    ending = {b: i for i, (a, b) in enumerate(encoded["offset_mapping"]) if b > a}
    wrong = next((end for end in ends if end not in ending or ids[ending[end]] != tag), None)
    if wrong is not None:
        raise ValueError(
            f"no token {tokenizer.convert_ids_to_tokens(tag)!r} ends where the tag ends in "
            f"{text[max(wrong - 30, 0) : wrong]!r}. The tokenizer is not that of this style. Give another --style."
        )
    return TaggedInput(ids, {step: ending[end] for step, end in enumerate(ends)})


def _rendered(tokenizer: Any, turns: Sequence[dict[str, str]], tags: int) -> list[str]:
    """The text of the chat, split at each ``_HERE``."""
    if not tokenizer.chat_template:
        raise ValueError("the format is a chat, but the tokenizer has no chat template. Give another --style.")
    parts = str(tokenizer.apply_chat_template(list(turns), tokenize=False)).split(_HERE)
    if len(parts) != tags + 1:
        raise ValueError(f"the chat template shows {len(parts) - 1} of {tags} answers. Give another --style.")
    return parts


def _numbered(step: str, k: int) -> str:
    """The step with "Step k:" in front, unless it begins with a number of its own."""
    text = step.strip()
    return text if re.match(r"Step \d+:", text) else f"Step {k}: {text}"


def _step_of_characters(steps: Sequence[str]) -> list[int]:
    return [number for number, step in enumerate(steps) for _ in step]
