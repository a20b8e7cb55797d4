"""Tokens and FLOPs that a run needs: exact sums over sequence lengths, times the sizes of a model."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import astuple, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Shape(NamedTuple):
    """Sizes of a decoder's matrix products; of a mixture of experts, those that one token passes through."""

    body: int  # multiply-adds of one token in the matrices of all layers
    head: int  # multiply-adds of one position in the output head
    attention: int  # FLOPs of one token for each position it attends to: its score, and its share of the mixed value


class FlopsUnknown(ValueError):
    """PyTorch's FLOP counter cannot count a forward pass of this architecture."""


_SHAPES: dict[str, Shape] = {}  # by configuration; a large model takes seconds


def shape_of(config: Any) -> Shape:
    """Shape of the causal language model that a transformers ``config`` describes, by PyTorch's FLOP counter.

    The model is built on the meta device, without weights. Law: a forward pass of n tokens with logits at k positions
    takes 2 n ``body`` + n^2 ``attention`` + 2 k ``head`` FLOPs, so three short passes give the three sizes.
    Raises ``FlopsUnknown`` where transformers cannot build or run the model on the meta device.
    """
    key = config.to_json_string()
    if key not in _SHAPES:
        try:
            _SHAPES[key] = _counted_shape(config)
        except Exception as error:  # each architecture fails in its own way
            reason = str(error).partition("\n")[0][:200]
            raise FlopsUnknown(
                f"PyTorch cannot count the FLOPs of a model of type {config.model_type!r} ({reason}). It counts causal "
                "language models of transformers that run on the meta device. Train without the callback Costs."
            ) from error
    return _SHAPES[key]


def _counted_shape(config: Any) -> Shape:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            deepcopy(config),
            dtype=torch.bfloat16,
            attn_implementation="eager",  # the counter knows its products on every device
            experts_implementation="batched_mm",  # the counter does not know the default, a grouped product
        )
    one, two, two_with_logits = (_count(model, *sizes) for sizes in ((1, 1), (2, 1), (2, 2)))
    head = two_with_logits - two
    attention = (two - 2 * one + head) // 2
    return Shape((one - head - attention) // 2, head // 2, attention)


def _count(model: Any, tokens: int, outputs: int) -> int:
    """FLOPs of one forward pass with logits at the last ``outputs`` positions; each token attends to all of them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    mask = torch.zeros(1, 1, tokens, tokens, dtype=torch.bfloat16, device="meta")  # ready-made: transformers reads ids
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=mask, logits_to_keep=outputs, use_cache=False)
    return int(counter.get_total_flops())


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a forward pass, without the model's shape."""

    tokens: int = 0  # through the body
    contexts: int = 0  # positions that these tokens attend to, including themselves
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
        """Responses of these lengths, sampled token by token after their prompts with a KV cache.

        Every response reads its own prompt, and its last token goes through no layer: p + n - 1 tokens.
        """
        n = np.asarray(responses, dtype=np.int64)
        return cls.read(np.maximum(np.asarray(prompts, dtype=np.int64) + n - 1, 0), int(n.sum()))

    @classmethod
    def even(cls, tokens: int, sequences: float, outputs: int) -> Work:
        """One causal pass over sequences of equal length: the least attention that so many tokens can need."""
        return cls(tokens, round(tokens * (tokens / sequences + 1) / 2) if tokens else 0, outputs)


def forward(shape: Shape, work: Work) -> int:
    """FLOPs of matrix products and attention: 2 for each multiply-add. Norms, softmax and sampling are not counted."""
    return 2 * (shape.body * work.tokens + shape.head * work.outputs) + shape.attention * work.contexts


def backward(shape: Shape, work: Work) -> int:
    """FLOPs of the gradients of inputs and of weights: one product each for every product of the forward pass."""
    return 2 * forward(shape, work)


class Cost(NamedTuple):
    """Tokens seen and FLOPs needed."""

    tokens: int = 0
    flops: int = 0


_NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of one run, by purpose."""

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
    """The cost of a first stage, from its metrics, that a second stage on the same rollouts adds to its own."""
    parts = ("training", "reference", "earlier")
    return Cost(*(sum(int(metrics.get(f"cost/{part}_{of}", 0)) for part in parts) for of in ("tokens", "flops")))


def generated(counts: Mapping[str, int], shape: Shape) -> Cost:
    """Cost of sampling the rollouts that ``RolloutDataModule.spent`` counted."""
    n, prompts, responses = (counts.get(f"rollout_{x}", 0) for x in ("responses", "prompt_tokens", "response_tokens"))
    work = Work.even(max(prompts + responses - n, 0), max(n, 1), responses)
    return Cost(prompts + responses, forward(shape, work))


def labelled(counts: Mapping[str, int], sampler: Shape, scorer: Shape) -> Cost:
    """Cost of labelling steps: the tokens that ``sampler`` read and wrote, and those that ``scorer`` read."""
    read, written, scored = (counts.get(f"labelling_{x}_tokens", 0) for x in ("prompt", "generated", "scored"))
    rollouts = counts.get("rollout_prompt_tokens", 0) + counts.get("rollout_response_tokens", 0)
    length = rollouts / max(counts.get("rollout_responses", 0), 1) or 1.0
    sampling = Work.even(read + written, (read + written) / length, written)
    scoring = Work.even(scored, scored / length, 0)
    return Cost(read + written + scored, forward(sampler, sampling) + forward(scorer, scoring))


def assumptions() -> str:
    """A text on what the numbers count and what they leave out, for every table of them."""
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
