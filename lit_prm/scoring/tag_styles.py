"""How each family of released tag-token PRMs wants a response written, where it answers, and what its head is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedTokenizerBase
from transformers.utils import logging

from lit_prm.models.language_model import Dtype, load_model
from lit_prm.scoring.weight_files import tensors

_HERE = "\u2063tag\u2063"  # stands for a tag while a chat template is applied; no template transforms it


class TaggedInput(NamedTuple):
    """A response as a model's input, and the columns whose output speaks of step 1, 2, ...: ``at`` ascends."""

    ids: list[int]
    at: list[int]


class StepClassifier(nn.Module):
    """A backbone, and the log-odds that a step is right as a function of one hidden state."""

    def __init__(self, backbone: nn.Module, log_odds: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_odds = log_odds

    @torch.no_grad()
    def forward(self, ids: Tensor, read: Tensor) -> Tensor:
        """Log-odds at the positions ``read``; [B, T], [B, T] bool -> [R], row by row.

        Rows are padded on the right and nothing is masked: attention is causal, and no position but padding is
        behind the ones that are read.
        """
        hidden = self.backbone(input_ids=ids, use_cache=False).last_hidden_state  # [B, T, H]
        return self.log_odds(hidden[read])


class TagStyle(ABC):
    """One family's input format. ``load`` gives its judge, ``lay_out`` writes a response for it."""

    name: ClassVar[str]
    architectures: ClassVar[tuple[str, ...]] = ()  # as config.json names them, where only this family has them
    released_as: ClassVar[tuple[str, ...]] = ()  # parts of released names, in lower case
    aggregate: ClassVar[str] = "min"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} gives no character offsets, which tags are found by; use the "
                "tokenizer's fast version"
            )
        self.tokenizer = tokenizer

    @abstractmethod
    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        """The tokens of question and steps with the family's tags, and where it answers for each step."""

    @abstractmethod
    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        """The model of a folder or the hub, in eval mode; no code of the folder is run."""

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, nothing added."""
        return cast(list[int], self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def tagged(self, text: str, ends: Sequence[int], tag: int, *, special: bool) -> TaggedInput:
        """The tokens of a text in which a tag ends at each of ``ends``, read at the tags' last tokens: ``tag`` each."""
        encoded = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
        ids = cast(list[int], encoded["input_ids"])
        ending = {b: i for i, (a, b) in enumerate(encoded["offset_mapping"]) if b > a}
        wrong = next((end for end in ends if end not in ending or ids[ending[end]] != tag), None)
        if wrong is not None:
            raise ValueError(
                f"style {self.name}: no token {self.tokenizer.convert_ids_to_tokens(tag)!r} ends where the tag does in "
                f"{text[max(wrong - 30, 0) : wrong]!r}: the tokenizer is not this style's; give another --style"
            )
        return TaggedInput(ids, [ending[end] for end in ends])


class MathShepherdTags(TagStyle):
    r"""Plain text, ``{question} Step 1: ... ки\nStep 2: ... ки``; `+` against `-` at each ки (Wang et al. 2024)."""

    name = "math-shepherd"
    released_as = ("math-shepherd-mistral-7b-prm",)
    TAG = "ки"

    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        text, ends = question + " ", list[int]()
        for k, step in enumerate(steps, 1):
            text += f"{_numbered(step, k)} {self.TAG}"
            ends.append(len(text))
            text += "\n" if k < len(steps) else ""
        return self.tagged(text, ends, self.ids(f" {self.TAG}")[-1], special=True)

    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        plus, minus = _two(self.ids("+ -"), self.name)
        return _language_judge(source, dtype, plus, minus)


class RLHFlow(TagStyle):
    """A chat: the question and each step are the user's, the assistant answers `+`; `+` against `-` where it would
    be said (RLHFlow 2024).
    """

    name = "rlhflow"
    released_as = ("prm-mistral-data", "prm-deepseek-data")

    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        said = [f"{question} {steps[0].strip()}", *(step.strip() for step in steps[1:])] if steps else [question]
        turns = [{"role": r, "content": c} for text in said for r, c in (("user", text), ("assistant", _HERE))]
        parts = _rendered(self.tokenizer, turns, len(said), self.name)
        text, ends = parts[0], list[int]()
        for part in parts[1:]:
            text += "+"
            ends.append(len(text))
            text += part
        found = self.tagged(text, ends[: len(steps)], self.ids("+")[-1], special=False)
        return TaggedInput(found.ids, [i - 1 for i in found.at])

    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        return _language_judge(source, dtype, self.ids("+")[-1], self.ids("-")[-1])


class QwenPRM(TagStyle):
    """A chat whose answer has <extra_0> behind each step; a two-layer head of two classes there (Zhang et al. 2025)."""

    name = "qwen"
    architectures = ("Qwen2ForProcessRewardModel",)
    released_as = ("qwen2.5-math-prm", "qwen2.5-math-7b-prm800k")
    TAG = "<extra_0>"
    SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."

    def lay_out(self, question: str, steps: Sequence[str]) -> TaggedInput:
        turns = [("system", self.SYSTEM), ("user", question), ("assistant", _HERE)]
        chat = [{"role": role, "content": content} for role, content in turns]
        text, tail = _rendered(self.tokenizer, chat, 1, self.name)
        ends = list[int]()
        for step in steps:
            text += step.strip() + self.TAG
            ends.append(len(text))
        return self.tagged(text + tail, ends, self.ids(self.TAG)[-1], special=False)

    def load(self, source: str, dtype: Dtype) -> StepClassifier:
        backbone = _backbone(source, dtype)
        weights = tensors(source, ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias"))
        first, second = (_linear(weights[f"score.{i}.weight"], weights[f"score.{i}.bias"], backbone) for i in (0, 2))
        return StepClassifier(backbone, _Difference(nn.Sequential(first, nn.ReLU(), second), right=1, wrong=0))


class SkyworkPRM(TagStyle):
    """``{question}`` and each step end with a line break; a linear head with a sigmoid at the steps' (Skywork o1 2024).

    Pieces are tokenized one by one, as the authors do.
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
        backbone = _backbone(source, dtype)
        weights = tensors(source, ("v_head.summary.weight", "v_head.summary.bias"))
        head = _linear(weights["v_head.summary.weight"], weights["v_head.summary.bias"], backbone)
        return StepClassifier(backbone, nn.Sequential(head, nn.Flatten(0)))


STYLES: dict[str, type[TagStyle]] = {s.name: s for s in (MathShepherdTags, RLHFlow, QwenPRM, SkyworkPRM)}


class _Difference(nn.Module):
    """One output less another: the log-odds whose sigmoid is the softmax over the two."""

    def __init__(self, head: nn.Module, right: int, wrong: int) -> None:
        super().__init__()
        self.head, self.right, self.wrong = head, right, wrong

    def forward(self, states: Tensor) -> Tensor:
        logits = self.head(states).float()  # [R, outputs]
        return cast(Tensor, logits[:, self.right] - logits[:, self.wrong])


def _language_judge(source: str, dtype: Dtype, plus: int, minus: int) -> StepClassifier:
    model = cast(Any, load_model(source, dtype))
    return StepClassifier(model.base_model, _Difference(model.get_output_embeddings(), right=plus, wrong=minus))


def _backbone(source: str, dtype: Dtype) -> nn.Module:
    """The network below the heads, by transformers' own class for its type; weights that are missing are refused."""
    with _without_report():
        model, report = cast(Any, AutoModel).from_pretrained(
            source, dtype=dtype, trust_remote_code=False, output_loading_info=True
        )
    if report["missing_keys"]:
        raise ValueError(
            f"{source} lacks {len(report['missing_keys'])} weights of a {type(model).__name__}, e.g. "
            f"{sorted(report['missing_keys'])[0]}; give the folder as it was released"
        )
    return cast(nn.Module, model.eval())


@contextmanager
def _without_report() -> Iterator[None]:
    """Transformers' list of what it did not load, here the heads, kept to itself."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _linear(weight: Tensor, bias: Tensor, like: nn.Module) -> nn.Linear:
    dtype = next(like.parameters()).dtype
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
    layer.load_state_dict({"weight": weight.to(dtype), "bias": bias.to(dtype)})
    return layer.requires_grad_(False)


def _rendered(tokenizer: Any, turns: Sequence[dict[str, str]], tags: int, style: str) -> list[str]:
    """The chat's text around each ``_HERE``."""
    if not tokenizer.chat_template:
        raise ValueError(f"style {style} is a chat, but the tokenizer has no chat template; give another --style")
    parts = str(tokenizer.apply_chat_template(list(turns), tokenize=False)).split(_HERE)
    if len(parts) != tags + 1:
        raise ValueError(f"style {style}: the chat template shows {len(parts) - 1} of {tags} answers; give another")
    return parts


def _numbered(step: str, k: int) -> str:
    text = step.strip()
    return text if re.match(r"Step \d+:", text) else f"Step {k}: {text}"


def _two(ids: Sequence[int], style: str) -> tuple[int, int]:
    if len(ids) != 2:
        raise ValueError(f"style {style}: '+ -' is {len(ids)} tokens, not 2: the tokenizer is not this style's")
    return ids[0], ids[1]
