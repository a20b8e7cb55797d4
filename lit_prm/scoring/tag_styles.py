"""The released PRMs that can be scored, a row each: how their input is written, what reads it, how they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lit_prm.data.steps import BlankLine, EveryLine, StepRule
from lit_prm.evaluation.aggregates import refuse_unknown_aggregates
from lit_prm.models.language_model import load_config
from lit_prm.scoring import tag_heads as heads
from lit_prm.scoring.tag_layouts import (
    AnsweredTurns,
    EachLine,
    InputLayout,
    SeparateSteps,
    TaggedChat,
    TaggedInput,
    TaggedText,
    WholeResponse,
)


@dataclass(frozen=True, kw_only=True)
class TagStyle:
    """One family of released PRMs. A new one is a row of ``STYLES``."""

    name: str
    layout: InputLayout
    head: heads.Head
    released_as: tuple[str, ...] = ()  # parts of released names, in lower case
    architectures: tuple[str, ...] = ()  # ends of an architecture's name in config.json, if it tells the family
    aggregate: str = "min"  # how the authors score a response
    steps: type[StepRule] = BlankLine  # of responses without steps of their own
    outcome: bool = False  # judges the whole response alone; its number is no log-odds of a step

    def lay_out(self, tokenizer: PreTrainedTokenizerBase, question: str, steps: Sequence[str]) -> TaggedInput:
        """The response as the model's input. Raises ValueError, with the style, for another family's tokenizer."""
        try:
            return self.layout.lay_out(tokenizer, question, steps)
        except ValueError as error:
            raise ValueError(f"style {self.name}: {error}") from None

    def separated_by(self, separator: str) -> TagStyle:
        """The style with another separator behind each step."""
        if not isinstance(self.layout, SeparateSteps):
            raise ValueError(
                f"--separator {separator!r} does not apply: style {self.name} has its own tags. Leave it out."
            )
        return replace(self, layout=replace(self.layout, separator=separator))

    def refuse_aggregate(self, name: str) -> None:
        """Raise ValueError for an unknown aggregate, and for any if there is one number a response."""
        refuse_unknown_aggregates([name])
        if self.outcome:
            raise ValueError(
                f"--aggregate {name} does not apply: style {self.name} gives a response one reward. Leave it out."
            )


_QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."

STYLES: dict[str, TagStyle] = {
    style.name: style
    for style in (
        TagStyle(
            name="math-shepherd",
            layout=TaggedText(" ки", between="\n", numbered=True),
            head=heads.tokens(" +", " -"),
            released_as=("math-shepherd-mistral-7b-prm",),
        ),
        TagStyle(  # trained by OpenRLHF on Math-Shepherd's data
            name="openrlhf",
            layout=TaggedText(" ки", between="\n", numbered=True),
            head=heads.tokens("+", "-"),
            released_as=("mistral-7b-prm-math-shepherd", "asprm"),
        ),
        TagStyle(
            name="er-prm",
            layout=TaggedText(" ки", numbered=True),
            head=heads.tokens(" +", " -"),
            released_as=("llama3.1-math-prm",),
        ),
        TagStyle(
            name="versaprm",
            layout=TaggedText(" \n\n\n\n", behind_question=" \n\n"),
            head=heads.tokens("+", "-"),
            released_as=("versaprm", "llama-prm800k"),
        ),
        TagStyle(
            name="rlhflow",
            layout=AnsweredTurns(),
            head=heads.tokens("+", "-"),
            released_as=("prm-mistral-data", "prm-deepseek-data"),
            aggregate="mean-probability",
        ),
        TagStyle(  # as ProcessBench's script asks RLHFlow's models
            name="rlhflow-processbench",
            layout=AnsweredTurns(behind_question="\n\n"),
            head=heads.greedy("+"),
        ),
        TagStyle(
            name="reasonflux",
            layout=TaggedChat("<extra_0>"),
            head=heads.qwen_prm,
            released_as=("reasonflux-prm-7b",),
        ),
        TagStyle(
            name="qwen",
            layout=TaggedChat("<extra_0>", system=_QWEN_SYSTEM),
            head=heads.qwen_prm,
            released_as=("qwen2.5-math-prm", "qwen2.5-math-7b-prm800k"),
            architectures=("Qwen2ForProcessRewardModel",),
        ),
        TagStyle(
            name="skywork",
            layout=EachLine(),
            head=heads.skywork_prm,
            released_as=("skywork-o1-open-prm",),
            architectures=("Qwen2ForPrmModel",),
            steps=EveryLine,
        ),
        TagStyle(
            name="pure",
            layout=SeparateSteps("\n\n"),
            head=heads.token_classifier,
            released_as=("pure-prm",),
        ),
        TagStyle(
            name="trl-blank-line",
            layout=SeparateSteps("\n\n"),
            head=heads.token_classifier,
            released_as=("instruct-prm-0.2",),
        ),
        TagStyle(
            name="trl",
            layout=SeparateSteps("\n"),
            head=heads.token_classifier,
            architectures=("ForTokenClassification",),
        ),
        TagStyle(
            name="outcome",
            layout=WholeResponse(),
            head=heads.sequence_classifier,
            architectures=("ForSequenceClassification",),
            outcome=True,
        ),
    )
}


def style_of(source: str) -> str | None:
    """The style of a model by its released name, else by its architecture; None if both are unknown."""
    config = load_config(source)
    built, model_name = getattr(config, "architectures", None) or (), Path(source).name.lower()
    named = (name for name, style in STYLES.items() if any(part in model_name for part in style.released_as))
    shaped = (name for name, style in STYLES.items() if any(a.endswith(style.architectures) for a in built))
    return next(named, None) or next(shaped, None)


def style_named(source: str, given: str | None) -> TagStyle:
    """The given style, else that of the source. Raises ValueError for an unknown one."""
    name = given or style_of(source)
    if name not in STYLES:
        problem = f"style {given!r} is unknown" if given else f"Neither name nor config of {source} tells its style"
        raise ValueError(f"{problem}. Give one of --style {', '.join(STYLES)}.")
    return STYLES[name]
