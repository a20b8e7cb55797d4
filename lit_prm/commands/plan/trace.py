"""Memory of a training step at each moment, measured by running the real code on tensors without data."""

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
    """Counts the bytes of tensors that are made inside and still alive; tensors of ``known`` are not counted."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0  # most bytes since somebody set this attribute
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
    """Bytes of one micro-batch's forward and backward pass, on top of weights and gradients."""

    kept: int  # activations at the end of the body's forward pass, kept for its backward pass
    head: int  # on top of ``kept`` while logits and their gradients are computed
    layer: int  # on top of ``kept`` in the backward pass of a layer, with its recomputation
    embedding: int  # in all while the embedding's gradient is computed


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything except the model that decides the bytes of a micro-batch."""

    tokens: int  # positions that go through the body, padding included
    outputs: int  # positions whose logits are computed
    dtype: torch.dtype = torch.float32  # of the weights, except those of an adapter
    autocast: bool = False  # True if products are computed in bfloat16
    checkpointing: bool = False
    adapter: Adapter | None = None  # if given, nothing else is trained
    rows: int = 1  # number of rows of equal length
    attention: str | None = None  # name in transformers; None for one that keeps no tokens x tokens matrix


def step_memory(config: Any, case: Pass) -> Step:
    """Memory of a step of the whole model, from runs with one and two layers: each further layer keeps the same."""
    one, two = (_traced(config.to_json_string(use_diff=False), layers, case) for layers in (1, 2))
    return two._replace(kept=one.kept + (config.num_hidden_layers - 1) * (two.kept - one.kept))


@lru_cache(maxsize=256)  # alternatives share most of them
def _traced(config: str, layers: int, case: Pass) -> Step:
    with FakeTensorMode():
        made = network(
            from_fields(json.loads(config)), layers, case.dtype, checkpointing=case.checkpointing,
            adapter=case.adapter, attention=case.attention,
        )  # fmt: skip
        model, weights = cast(Any, made), list(made.parameters())
        trained = [weight for weight in weights if weight.requires_grad]
        for weight in trained:
            weight.grad = torch.empty_like(weight)  # Lightning keeps the gradients of the update before
        ids = torch.zeros((case.rows, case.tokens // case.rows), dtype=torch.long)
        live = Live([*weights, *(cast(Tensor, w.grad) for w in trained), *model.buffers(), ids])
        with live:
            return _step(model, ids, case, live)


def _step(model: Any, ids: Tensor, case: Pass, live: Live) -> Step:
    with torch.autocast("cpu", torch.bfloat16, enabled=case.autocast):
        embedded = model.get_input_embeddings()(ids)
        leaf = embedded.detach().requires_grad_(embedded.requires_grad)
        hidden = model.base_model(inputs_embeds=leaf, use_cache=False).last_hidden_state
        kept = live.peak = live.now
        top = hidden.detach().requires_grad_()
        states = top.flatten(0, 1)[ids.numel() - case.outputs :]
        if case.outputs:
            loss = position_logps(model.get_output_embeddings(), states, ids.flatten()[: case.outputs]).sum()
        else:  # a value head, which is small, reads the hidden states
            loss = (states.sum() * 0.0).float()
    loss.backward()
    head, live.peak = live.peak - kept, live.now
    gradient, top.grad = top.grad, None
    del loss, states, top
    hidden.backward(gradient)
    layer, live.peak = live.peak - kept, live.now
    gradient, leaf.grad = leaf.grad, None
    del hidden
    if gradient is not None:  # None under an adapter: nothing below its first layer is trained
        embedded.backward(gradient)
    return Step(kept, head, max(layer, 0), live.peak)


class Optimized(NamedTuple):
    """Bytes of an optimizer's state."""

    kept: int  # between updates
    work: int  # on top of that during an update


@lru_cache(maxsize=256)
def optimizer_memory(
    kind: Callable[..., Optimizer], options: tuple[tuple[str, Any], ...], size: int, dtype: torch.dtype
) -> Optimized:
    """Memory of an optimizer of ``size`` weights in one tensor."""
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
