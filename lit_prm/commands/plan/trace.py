"""How much memory a training step holds at each moment: the real code, run on fake tensors."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_prm.commands.plan.network import Adapter, from_fields, network
from lit_prm.models.logps import position_logps


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside and still alive; what is ``known`` before is not counted."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0  # since it was last set
        self._seen = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, storage: Any) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address not in self._seen:
            self._seen.add(address)
            self.now += size
            weakref.finalize(storage, self._freed, address, size)

    def _freed(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size


class Step(NamedTuple):
    """Bytes of one micro-batch's forward and backward pass, beside weights and gradients."""

    kept: int  # at the end of the body's forward pass, for its backward pass
    head: int  # more than that while logits are computed and left again
    layer: int  # more than that while a layer is gone back through, recomputed where nothing of it was kept
    embedding: int  # of all that is left when the embedding's gradient is made


@dataclass(frozen=True, slots=True)
class Pass:
    """What decides the bytes of a micro-batch, beside the model."""

    tokens: int  # positions that go through the body, padding included
    outputs: int  # positions whose logits are computed
    dtype: torch.dtype = torch.float32  # of weights, an adapter's own left out
    autocast: bool = False  # to bfloat16
    checkpointing: bool = False
    adapter: Adapter | None = None  # what alone is trained
    rows: int = 1  # as many of equal length
    attention: str | None = None  # one of transformers', or the kind that keeps no matrix of tokens by tokens


def step_memory(config: Any, asked: Pass) -> Step:
    """Of the whole model, from one and two of its layers: each further one keeps the same."""
    one, two = (_traced(config.to_json_string(use_diff=False), layers, asked) for layers in (1, 2))
    return two._replace(kept=one.kept + (config.num_hidden_layers - 1) * (two.kept - one.kept))


@lru_cache(maxsize=256)  # alternatives share most of them
def _traced(config: str, layers: int, asked: Pass) -> Step:
    with FakeTensorMode():
        made = network(
            from_fields(json.loads(config)), layers, asked.dtype, checkpointing=asked.checkpointing,
            adapter=asked.adapter, attention=asked.attention,
        )  # fmt: skip
        model, weights = cast(Any, made), list(made.parameters())
        trained = [weight for weight in weights if weight.requires_grad]
        for weight in trained:
            weight.grad = torch.empty_like(weight)  # kept from the update before, as Lightning does
        ids = torch.zeros((asked.rows, asked.tokens // asked.rows), dtype=torch.long)
        live = Live([*weights, *(cast(Tensor, w.grad) for w in trained), *model.buffers(), ids])
        with live:
            return _step(model, ids, asked, live)


def _step(model: Any, ids: Tensor, asked: Pass, live: Live) -> Step:
    with torch.autocast("cpu", torch.bfloat16, enabled=asked.autocast):
        embedded = model.get_input_embeddings()(ids)
        leaf = embedded.detach().requires_grad_(embedded.requires_grad)
        hidden = model.base_model(inputs_embeds=leaf, use_cache=False).last_hidden_state
        kept = live.peak = live.now
        top = hidden.detach().requires_grad_()
        states = top.flatten(0, 1)[ids.numel() - asked.outputs :]
        loss = _loss(model, states, ids.flatten()[: asked.outputs])
    loss.backward()
    head, live.peak = live.peak - kept, live.now
    gradient, top.grad = top.grad, None
    del loss, states, top
    hidden.backward(gradient)
    layer, live.peak = live.peak - kept, live.now
    gradient, leaf.grad = leaf.grad, None
    del hidden
    if gradient is not None:  # nothing below an adapter's first layer is trained
        embedded.backward(gradient)
    return Step(kept, head, max(layer, 0), live.peak)


def _loss(model: Any, states: Tensor, ids: Tensor) -> Tensor:
    """Something of every log-prob; of hidden states where a value head, which is small, is on them."""
    if not len(states):
        return (states.sum() * 0.0).float()
    return position_logps(model.get_output_embeddings(), states, ids).sum()


class Optimized(NamedTuple):
    """Bytes of an optimizer."""

    kept: int
    work: int  # more than that during an update


@lru_cache(maxsize=256)
def optimizer_memory(
    kind: Callable[..., Optimizer], options: tuple[tuple[str, Any], ...], size: int, dtype: torch.dtype
) -> Optimized:
    """Of ``size`` weights in one tensor."""
    with FakeTensorMode():
        weight = torch.empty(size, dtype=dtype, requires_grad=True)
        weight.grad = torch.empty_like(weight)
        live = Live([weight, weight.grad])
        with live:
            optimizer = kind([weight], **dict(options))
            optimizer.step()
            kept = live.peak = live.now
            optimizer.step()
        return Optimized(kept, live.peak - kept)
