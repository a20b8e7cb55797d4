"""Hidden states of responses that share prompts, for models without packed attention: each prompt is run once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_prm.data.batch import Batch

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

# Tokens of one forward pass without gradients. On a CPU small passes are as fast as large ones and need less padding.
PART = defaultdict(lambda: 16384, cpu=1024)


@dataclass(frozen=True, slots=True)
class _Prompts:
    """P prompts padded on the right to W tokens, with their keys and values in every layer."""

    length: Tensor  # [P]
    hidden: Tensor  # [P, W, H]
    layers: list[tuple[Tensor, Tensor]]  # keys and values, [P, heads, W, D] each

    def behind(self, owner: Tensor) -> Cache:
        """A cache whose row i holds the prompt ``owner[i]``."""
        from transformers.cache_utils import Cache

        return Cache(layers=[_layer(keys[owner], values[owner]) for keys, values in self.layers])


def shared_states(base: Any, batch: Batch) -> Tensor:
    """Last hidden states at every prompt's last token and in the responses, 0 elsewhere; [B, T, H].

    Equal to those of whole rows up to rounding, gradients included. Padding columns of prompts are masked, and the
    positions of a response continue those of its own prompt. Responses are run in parts of similar length.
    """
    length, owner = batch.prompt_length.cpu(), torch.as_tensor(batch.owner).cpu()
    batch = batch._replace(length=batch.length.cpu(), prompt_length=length, owner=owner)
    prompts = _run_prompts(base, batch, owner)
    out = prompts.hidden.new_zeros((*batch.ids.shape, prompts.hidden.shape[-1]))
    out[torch.arange(len(owner)), length - 1] = prompts.hidden[owner, length - 1]
    for rows in _parts(batch.length - length, PART[out.device.type]):
        _run_responses(base, batch, prompts, rows, out)
    return out


def _run_prompts(base: Any, batch: Batch, owner: Tensor) -> _Prompts:
    first = [int((owner == p).nonzero()[0]) for p in range(int(owner.max()) + 1)]
    length = batch.prompt_length[first]
    output = base(input_ids=batch.ids[first, : int(length.max())], use_cache=True)
    cache = output.past_key_values
    if cache is None or any(layer.keys is None for layer in cache.layers):
        raise ValueError(
            f"{type(base).__name__} keeps no keys and values of the prompts (as under gradient checkpointing), so "
            "prompts cannot be shared. Set data.share_prompts to false, or call collate(..., share_prompts=False)."
        )
    return _Prompts(length, output.last_hidden_state, [(layer.keys, layer.values) for layer in cache.layers])


def _parts(sizes: Tensor, part: int) -> Iterator[Tensor]:
    """Rows that have a response, longest first, in parts of at most ``part`` padded tokens or of one row."""
    order = [int(i) for i in torch.argsort(sizes, descending=True, stable=True) if sizes[i] > 0]
    while order:
        n = max(part // int(sizes[order[0]]), 1)
        yield torch.tensor(order[:n])
        order = order[n:]


def _run_responses(base: Any, batch: Batch, prompts: _Prompts, rows: Tensor, out: Tensor) -> None:
    """Write the states of the responses of ``rows`` to their places in ``out``."""
    device, start = out.device, batch.prompt_length[rows]
    size = batch.length[rows] - start
    at = torch.arange(int(size.max()))  # [R]
    columns = (start.unsqueeze(1) + at).to(device)  # [b, R]
    inside = (at < size.unsqueeze(1)).to(device)
    rows = rows.to(device)
    ids = batch.ids[rows].gather(1, columns.clamp(max=batch.ids.shape[1] - 1)).where(inside, 0)
    states = base(
        input_ids=ids,
        position_ids=columns,
        attention_mask=_mask(start, len(at), prompts.hidden.shape[1], prompts.layers[0][0]),
        past_key_values=prompts.behind(torch.as_tensor(batch.owner).to(device)[rows]),
        use_cache=True,
    ).last_hidden_state
    out[rows.unsqueeze(1).expand_as(columns)[inside], columns[inside]] = states[inside]


def _mask(prompt: Tensor, responses: int, width: int, like: Tensor) -> Tensor:
    """The additive attention mask: 0 for the own prompt and the response so far, else the dtype's smallest number.

    [b], R, W -> [b, 1, R, W + R].
    """
    of_prompt = (torch.arange(width) < prompt.unsqueeze(1)).unsqueeze(1).expand(-1, responses, -1)
    so_far = torch.ones((responses, responses), dtype=torch.bool).tril().expand(len(prompt), -1, -1)
    seen = torch.cat([of_prompt, so_far], dim=-1).unsqueeze(1).to(like.device)
    least = torch.finfo(like.dtype).min
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, least)


def _layer(keys: Tensor, values: Tensor) -> Any:
    """One layer of a cache, without a copy of keys and values."""
    from transformers.cache_utils import DynamicLayer

    layer = DynamicLayer()
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer
