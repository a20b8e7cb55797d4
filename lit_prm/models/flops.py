"""What a run costs in tokens and FLOPs: exact sums over lengths, times the shape of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# whether a family's MLP has a gate: three matrices instead of two
_GATED = {
    "llama": True, "mistral": True, "qwen2": True, "qwen3": True, "smollm3": True, "gemma": True, "olmo": True,
    "olmo2": True, "gpt2": False, "gpt_neox": False, "phi": False,
}  # fmt: skip


class Shape(NamedTuple):
    """The sizes of a decoder on which its matrix products depend."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    gated: bool

    @property
    def body(self) -> int:
        """Multiply-adds of one token in the matrices of all layers: their number of weights."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim
        mlp = (3 if self.gated else 2) * self.hidden * self.intermediate
        return self.layers * (attention + mlp)

    @property
    def head(self) -> int:
        """Multiply-adds of one position in the output head, whether or not its matrix is also the embedding."""
        return self.hidden * self.vocab

    @property
    def attention(self) -> int:
        """FLOPs of one token for each position it attends to: its score, and its share of the mixed value."""
        return 4 * self.layers * self.heads * self.head_dim


def shape_of(config: Any) -> Shape:
    """The shape a transformers config describes; a family whose products are not known is refused."""
    family = getattr(config, "model_type", None)
    if family not in _GATED:
        raise ValueError(
            f"a model of type {family!r} has matrix products we cannot count; known types: {', '.join(_GATED)}; add it "
            "to _GATED in lit_prm/models/flops.py, or take Costs out of trainer.callbacks"
        )
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    inner = ("n_inner", 4 * hidden) if family == "gpt2" else ("intermediate_size",)
    return Shape(
        layers=_size(config, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_size(config, *inner),
        heads=heads,
        kv_heads=_size(config, "num_key_value_heads", heads),
        head_dim=_size(config, "head_dim", hidden // heads),
        vocab=_size(config, "vocab_size"),
        gated=_GATED[family],
    )


def _size(config: Any, name: str, default: int | None = None) -> int:
    value = getattr(config, name, None)
    value = default if value is None else value
    if value is None:
        raise ValueError(
            f"the config of type {config.model_type!r} has no {name}, on which FLOPs depend; complete its config.json, "
            "or take Costs out of trainer.callbacks"
        )
    return int(value)


@dataclass(frozen=True, slots=True)
class Work:
    """What a model is given to do, whatever its shape."""

    tokens: int = 0  # through the body
    contexts: int = 0  # positions these tokens attend to, themselves among them
    outputs: int = 0  # positions whose logits are computed

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @classmethod
    def read(cls, lengths: ArrayLike, outputs: int) -> Work:
        """One causal pass over sequences of these lengths, with logits at ``outputs`` of their positions."""
        n = np.asarray(lengths, dtype=np.int64)
        return cls(int(n.sum()), int((n * (n + 1) // 2).sum()), outputs)

    @classmethod
    def written(cls, prompts: ArrayLike, responses: ArrayLike) -> Work:
        """Responses of these lengths, sampled one token at a time after their prompts, with a cache of keys and values.

        Every response reads its own prompt, and its last token goes through no layer: p + n - 1 tokens.
        """
        n = np.asarray(responses, dtype=np.int64)
        return cls.read(np.maximum(np.asarray(prompts, dtype=np.int64) + n - 1, 0), int(n.sum()))

    @classmethod
    def even(cls, tokens: int, sequences: float, outputs: int) -> Work:
        """One causal pass over sequences of equal length: the least attention these tokens can need."""
        return cls(tokens, round(tokens * (tokens / sequences + 1) / 2) if tokens else 0, outputs)


def forward(shape: Shape, work: Work) -> int:
    """FLOPs of matrix products and attention: 2 for each multiply-add; norms, softmax and sampling are left out."""
    return 2 * (shape.body * work.tokens + shape.head * work.outputs) + shape.attention * work.contexts


def backward(shape: Shape, work: Work) -> int:
    """FLOPs of the gradients of inputs and of weights: a product each for every product of the forward pass."""
    return 2 * forward(shape, work)


class Cost(NamedTuple):
    """Tokens seen and FLOPs needed."""

    tokens: int = 0
    flops: int = 0


_NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of one run, by what it was spent on."""

    generation: Cost = _NOTHING  # the rollouts chosen: prompts and responses
    labelling: Cost = _NOTHING  # completions sampled and responses scored to give steps labels
    reference: Cost = _NOTHING  # one pass over each distinct response used in training
    training: Cost = _NOTHING  # forward and backward of every response in every update
    earlier: Cost = _NOTHING  # training and reference of the runs whose checkpoints this one starts from

    def as_metrics(self) -> dict[str, int]:
        """``cost/<part>_tokens`` and ``cost/<part>_flops`` and their totals, the x axis of the paper's Figure 1."""
        parts: dict[str, Cost] = {f.name: getattr(self, f.name) for f in fields(self)}
        parts["total"] = Cost(*(sum(column) for column in zip(*parts.values(), strict=True)))
        return {
            **{f"cost/{name}_tokens": cost.tokens for name, cost in parts.items()},
            **{f"cost/{name}_flops": cost.flops for name, cost in parts.items()},
        }


def of_earlier(metrics: Mapping[str, float]) -> Cost:
    """What a first stage, whose metrics these are, adds to the cost of a second one on the same rollouts."""
    parts = ("training", "reference", "earlier")
    return Cost(*(sum(int(metrics.get(f"cost/{part}_{of}", 0)) for part in parts) for of in ("tokens", "flops")))


def generated(counts: Mapping[str, int], shape: Shape) -> Cost:
    """Cost of sampling the rollouts that ``RolloutDataModule.spent`` counted."""
    n, prompts, responses = (counts.get(f"rollout_{x}", 0) for x in ("responses", "prompt_tokens", "response_tokens"))
    work = Work.even(max(prompts + responses - n, 0), max(n, 1), responses)
    return Cost(prompts + responses, forward(shape, work))


def labelled(counts: Mapping[str, int], sampler: Shape, scorer: Shape) -> Cost:
    """Cost of giving steps labels: what ``sampler`` read and wrote, and what a value head on ``scorer`` read."""
    read, written, scored = (counts.get(f"labelling_{x}_tokens", 0) for x in ("prompt", "generated", "scored"))
    rollouts = counts.get("rollout_prompt_tokens", 0) + counts.get("rollout_response_tokens", 0)
    length = rollouts / max(counts.get("rollout_responses", 0), 1) or 1.0
    sampling = Work.even(read + written, (read + written) / length, written)
    scoring = Work.even(scored, scored / length, 0)
    return Cost(read + written + scored, forward(sampler, sampling) + forward(scorer, scoring))


def assumptions() -> str:
    """What the numbers count and what they leave out, to be printed with every table of them."""
    return (
        "FLOPs: 2 per multiply-add of matrix products, and 4 * layers * heads * head_dim for each token and position "
        "it attends to (causal, no window); backward = 2 x forward. Norms, softmax, sampling, the optimizer, padding "
        "and recomputed activations are left out. The word head sees response tokens only; a value head is left out. "
        "Generation: the rollouts chosen, each reading its own prompt, with a KV cache, at their mean length. "
        "Labelling: tokens as the labeller counts them, kept or new, in sequences as long as the mean rollout, scored "
        "through a value head on the policy's shape. Reference: one pass over each response of the first epoch, "
        "stored or not. Training: every response in every update; mismatched ones are read by policy and reference, "
        "without gradient. Earlier: training and reference of the run whose checkpoint this one starts from. "
        "Not counted: evaluation."
    )
