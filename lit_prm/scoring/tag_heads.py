"""The heads of released PRMs: what turns the hidden state of a judged position into log-odds that the step is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedTokenizerBase

from lit_prm.models.language_model import Dtype, load_model, reading
from lit_prm.scoring.tag_layouts import token_ids
from lit_prm.scoring.tag_models import LogitDifference, StepClassifier, linear, load_backbone

Head = Callable[[str, Dtype, PreTrainedTokenizerBase], StepClassifier]
"""Loads the model of a folder or the hub, its own head included, in eval mode. No code of the folder is run."""


def tokens(right: str, wrong: str) -> Head:
    """A language model that answers with one of two tokens: log-odds are the difference of their logits.

    A tokenizer may cut ``right`` or ``wrong`` into several tokens; the last one of each is its answer.
    """

    def load(source: str, dtype: Dtype, tokenizer: PreTrainedTokenizerBase) -> StepClassifier:
        plus, minus = (token_ids(tokenizer, text)[-1] for text in (right, wrong))
        if plus == minus:
            raise ValueError(
                f"The tokenizer of {source} gives {right!r} and {wrong!r} the same token, so they cannot answer. Give "
                "the model's own tokenizer, or another --style."
            )
        model = cast(Any, load_model(source, dtype))
        return StepClassifier(model.base_model, LogitDifference(model.get_output_embeddings(), plus, minus))

    return load


def greedy(right: str) -> Head:
    """A language model whose likeliest token says that the step is right if its text begins with ``right``.

    The log-odds are the highest logit of such tokens minus the highest of all others: positive if the former win.
    """

    def load(source: str, dtype: Dtype, tokenizer: PreTrainedTokenizerBase) -> StepClassifier:
        model = cast(Any, load_model(source, dtype))
        head = model.get_output_embeddings()
        texts = tokenizer.batch_decode([[token] for token in range(len(head.weight))])
        return StepClassifier(
            model.base_model, BestLogits(head, torch.tensor([text.strip().startswith(right) for text in texts]))
        )

    return load


class BestLogits(nn.Module):
    """The highest of the ``right`` outputs of a head minus the highest of the others."""

    def __init__(self, head: nn.Module, right: Tensor) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("right", right)  # [outputs] bool

    def forward(self, states: Tensor) -> Tensor:
        logits, right = self.head(states).float(), cast(Tensor, self.right)  # [R, outputs]
        return cast(Tensor, logits[:, right].amax(1) - logits[:, ~right].amax(1))


def qwen_prm(source: str, dtype: Dtype, tokenizer: PreTrainedTokenizerBase) -> StepClassifier:
    """Two layers with two outputs, of which the second means right (Zhang et al. 2025)."""
    backbone = load_backbone(source, dtype)
    first, second = (linear(source, f"score.{i}", backbone) for i in (0, 2))
    return StepClassifier(backbone, LogitDifference(nn.Sequential(first, nn.ReLU(), second), right=1, wrong=0))


def skywork_prm(source: str, dtype: Dtype, tokenizer: PreTrainedTokenizerBase) -> StepClassifier:
    """A linear layer whose sigmoid is P(step right) (Skywork o1 2024)."""
    backbone = load_backbone(source, dtype)
    return StepClassifier(backbone, nn.Sequential(linear(source, "v_head.summary", backbone), nn.Flatten(0)))


def token_classifier(source: str, dtype: Dtype, tokenizer: PreTrainedTokenizerBase) -> StepClassifier:
    """Transformers' token classification with two labels, of which the second means right; what TRL's trainer saves."""
    model = _classifier(AutoModelForTokenClassification, source, dtype, labels=2)
    return StepClassifier(model.base_model, LogitDifference(_output_layer(source, model), right=1, wrong=0))


def sequence_classifier(source: str, dtype: Dtype, tokenizer: PreTrainedTokenizerBase) -> StepClassifier:
    """Transformers' sequence classification with one label: the reward of the whole response (an outcome RM).

    Sets the padding token of ``tokenizer`` to the model's, because ``WholeResponse`` looks for the last other token.
    """
    model = _classifier(AutoModelForSequenceClassification, source, dtype, labels=1)
    padding = model.config.pad_token_id  # transformers reads the last token that is not this one
    tokenizer.pad_token = None if padding is None else tokenizer.convert_ids_to_tokens(padding)
    return StepClassifier(model.base_model, nn.Sequential(_output_layer(source, model), nn.Flatten(0)))


def _classifier(loader: Any, source: str, dtype: Dtype, labels: int) -> Any:
    """A classifier with all its weights. Raises ValueError for missing ones and for another number of labels."""
    with reading(source):
        model, report = loader.from_pretrained(source, dtype=dtype, trust_remote_code=False, output_loading_info=True)
    if report["missing_keys"]:
        raise ValueError(
            f"{source} lacks {', '.join(sorted(report['missing_keys'])[:3])} of a {type(model).__name__}, which would "
            "be random. Give the folder as it was released."
        )
    if model.config.num_labels != labels:
        raise ValueError(
            f"{source} has {model.config.num_labels} labels, and a reward model of this style has {labels}. Give "
            "another --style."
        )
    _refuse_bidirectional(source, model.eval())
    return model


def _output_layer(source: str, model: Any) -> nn.Module:
    """The layer from the last hidden state to the labels."""
    layer = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"{source} is a {type(model).__name__}, whose labels are not read from the last hidden state by one linear "
            "layer. Such models cannot be scored."
        )
    return layer.requires_grad_(False)


@torch.no_grad()
def _refuse_bidirectional(source: str, model: Any) -> None:
    """Raise ValueError if a token's hidden state depends on later tokens: padding and later steps would change it."""
    one, other = model.base_model(input_ids=torch.tensor([[1, 2], [1, 3]])).last_hidden_state[:, 0].float()
    if not torch.allclose(one, other, rtol=1e-2, atol=1e-3):
        raise ValueError(
            f"{source} is a {type(model).__name__}, whose tokens see those behind them. Only models with causal "
            "attention can be scored."
        )
