"""The input format of each family of released tag-token PRMs: its tags, where it answers, and its head."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple, cast

from torch import nn
from transformers import PreTrainedTokenizerBase

from lit_prm.models.language_model import Dtype
from lit_prm.scoring.tag_models import LogitDifference, StepClassifier, language_model_classifier, linear, load_backbone

_HERE = "\u2063tag\u2063"  # marks a tag's place while a chat template is applied; no template changes it


class TaggedInput(NamedTuple):
    """A response as a model's input."""

    ids: list[int]
    at: list[int]  # position whose output judges step 1, 2, ...; ascending


class TagStyle(ABC):
    """The input format of one family. ``load`` loads a model of the family, ``lay_out`` writes a response for it."""

    name: ClassVar[str]
    architectures: ClassVar[tuple[str, ...]] = ()  # in config.json, if only this family has them
    released_as: ClassVar[tuple[str, ...]] = ()  # parts of released names, in lower case
    aggregate: ClassVar[str] = "min"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} gives no character offsets, by which tags are located. Use the "
                "tokenizer's fast version."
            )
        self.tokenizer = tokenizer

    @abstractmethod
    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        """The tokens of question and steps with the family's tags, and the position of the answer for each step."""

    @abstractmethod
    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        """The model of a folder or the hub, in eval mode. No code of the folder is run."""

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without special tokens."""
        return cast(list[int], self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def tagged(self, head: str, parts: Sequence[str], tail: str, tag: int, *, special: bool) -> TaggedInput:
        """The tokens of the joined text, in which each part ends with a tag; answers are at the tags' last tokens.

        Raises ValueError if one of these tokens is not ``tag``, so that the model would be read at a wrong place.
        """
        text, ends = head + "".join(parts) + tail, list(accumulate(map(len, parts), initial=len(head)))[1:]
        encoded = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
        ids = cast(list[int], encoded["input_ids"])
        ending = {b: i for i, (a, b) in enumerate(encoded["offset_mapping"]) if b > a}
        wrong = next((end for end in ends if end not in ending or ids[ending[end]] != tag), None)
        if wrong is not None:
            raise ValueError(
                f"style {self.name}: no token {self.tokenizer.convert_ids_to_tokens(tag)!r} ends where the tag ends in "
                f"{text[max(wrong - 30, 0) : wrong]!r}. The tokenizer is not that of this style. Give another --style."
            )
        return TaggedInput(ids, [ending[end] for end in ends])


class MathShepherdTags(TagStyle):
    r"""Plain text, ``{question} Step 1: ... ки\nStep 2: ... ки``; `+` against `-` at each ки (Wang et al. 2024)."""

    name = "math-shepherd"
    released_as = ("math-shepherd-mistral-7b-prm",)
    TAG = "ки"

    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        tagged = [f"{_numbered(step, k)} {self.TAG}" for k, step in enumerate(steps, 1)]
        parts = [*tagged[:1], *(f"\n{step}" for step in tagged[1:])]
        return self.tagged(f"{question} ", parts, "", self.ids(f" {self.TAG}")[-1], special=True)

    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        answers = self.ids("+ -")
        if len(answers) != 2:
            raise ValueError(
                f"style {self.name}: '+ -' is {len(answers)} tokens, not 2. The tokenizer is not that of this style. "
                "Give another --style."
            )
        return language_model_classifier(source, dtype, *answers)


class RLHFlow(TagStyle):
    """A chat: the user sends the question and each step, the assistant answers `+`; `+` against `-` at the position
    that predicts the answer (RLHFlow 2024).
    """

    name = "rlhflow"
    released_as = ("prm-mistral-data", "prm-deepseek-data")

    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        messages = [f"{question} {steps[0].strip()}", *(step.strip() for step in steps[1:])] if steps else [question]
        turns = [{"role": r, "content": c} for text in messages for r, c in (("user", text), ("assistant", _HERE))]
        head, *between, tail = _rendered(self.tokenizer, turns, len(messages), self.name)
        answers = ["+", *(f"{text}+" for text in between)]
        tagged = self.tagged(head, answers, tail, self.ids("+")[-1], special=False)
        return TaggedInput(tagged.ids, [i - 1 for i in tagged.at[: len(steps)]])

    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        return language_model_classifier(source, dtype, self.ids("+")[-1], self.ids("-")[-1])


class QwenPRM(TagStyle):
    """A chat whose answer has <extra_0> after each step; a two-layer head with two outputs (Zhang et al. 2025)."""

    name = "qwen"
    architectures = ("Qwen2ForProcessRewardModel",)
    released_as = ("qwen2.5-math-prm", "qwen2.5-math-7b-prm800k")
    TAG = "<extra_0>"
    SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."

    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        turns = [("system", self.SYSTEM), ("user", question), ("assistant", _HERE)]
        chat = [{"role": role, "content": content} for role, content in turns]
        head, tail = _rendered(self.tokenizer, chat, 1, self.name)
        parts = [step.strip() + self.TAG for step in steps]
        return self.tagged(head, parts, tail, self.ids(self.TAG)[-1], special=False)

    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        backbone = load_backbone(source, dtype)
        first, second = (linear(source, f"score.{i}", backbone) for i in (0, 2))
        return StepClassifier(backbone, LogitDifference(nn.Sequential(first, nn.ReLU(), second), right=1, wrong=0))


class SkyworkPRM(TagStyle):
    """Question and steps, each ending with a line break; a linear head reads the steps' line breaks (Skywork o1 2024).

    The sigmoid of the head's output is P(step right). Question and steps are tokenized one by one, as the authors do.
    """

    name = "skywork"
    architectures = ("Qwen2ForPrmModel",)
    released_as = ("skywork-o1-open-prm",)

    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        ids, at, line_break = self.ids(f"{self.tokenizer.bos_token or ''}{question}\n"), list[int](), self.ids("\n")[-1]
        for step in steps:
            ids += [*self.ids(step.strip()), line_break]
            at.append(len(ids) - 1)
        return TaggedInput(ids, at)

    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        backbone = load_backbone(source, dtype)
        return StepClassifier(backbone, nn.Sequential(linear(source, "v_head.summary", backbone), nn.Flatten(0)))


STYLES: dict[str, type[TagStyle]] = {s.name: s for s in (MathShepherdTags, RLHFlow, QwenPRM, SkyworkPRM)}


def _rendered(tokenizer: Any, turns: Sequence[dict[str, str]], tags: int, style: str) -> list[str]:
    """The text of the chat, split at each ``_HERE``."""
    if not tokenizer.chat_template:
        raise ValueError(f"style {style} is a chat, but the tokenizer has no chat template. Give another --style.")
    parts = str(tokenizer.apply_chat_template(list(turns), tokenize=False)).split(_HERE)
    if len(parts) != tags + 1:
        raise ValueError(
            f"style {style}: the chat template shows {len(parts) - 1} of {tags} answers. Give another --style."
        )
    return parts


def _numbered(step: str, k: int) -> str:
    """The step with "Step k:" in front, unless it begins with a number of its own."""
    text = step.strip()
    return text if re.match(r"Step \d+:", text) else f"Step {k}: {text}"
