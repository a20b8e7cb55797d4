"""One row of `benchmarks.scaling` about updates: time and memory of DPO on all pairs of a problem, verified."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.machine import peak_bytes, update_flops, work_of
from benchmarks.updates_jobs import BETA, RATE, SHAPES
from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.losses.dpo import DPO
from lit_prm.models.logps import token_logps
from lit_prm.models.probes import pack
from lit_prm.models.values import log_ratios, prefix_values, response_rewards

FAR = 2e-5  # of two losses
Objective = Callable[[LlamaForCausalLM, Batch], Tensor]  # -> []


class Size(NamedTuple):
    """Size of an update: one problem, every second response right, a quarter of the tokens in the prompt."""

    responses: int
    length: int  # prompt and response tokens of each
    vocabulary: int

    @property
    def pairs(self) -> int:
        return (self.responses // 2) * (self.responses - self.responses // 2)


def measured(size: Size, shape: str, repeats: int) -> dict[str, Any]:
    """Median CPU seconds of an update and bytes at the peak; raises unless its losses equal the plain ones."""
    batch, before = problem(size), peak_bytes()
    policy = model(size, shape)
    pack(policy)
    losses, seconds = updates(policy, batch, ours, 1 + max(repeats, 1))
    memory = peak_bytes() - before
    refuse_other_losses(losses[:2], updates(model(size, shape), batch, plain, 2)[0])
    flops = update_flops(policy.config, [work_of(batch)])
    return {**size._asdict(), "seconds": statistics.median(seconds[1:]), "bytes": memory, "products": flops}


def model(size: Size, shape: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    fields = {**SHAPES[shape], "vocab_size": size.vocabulary, "max_position_embeddings": 8192}
    return LlamaForCausalLM(LlamaConfig(**fields, tie_word_embeddings=True))


def problem(size: Size) -> Batch:
    rng, prompt = np.random.default_rng(0), size.length // 4
    start = rng.integers(2, size.vocabulary, prompt)
    rows = [
        Encoded(
            ids=np.concatenate([start, rng.integers(2, size.vocabulary, size.length - prompt)]).astype(np.int32),
            prompt_length=prompt, step=np.zeros(size.length - prompt, dtype=np.int32), label=float(i % 2), group=0,
            row=i,
        )
        for i in range(size.responses)
    ]  # fmt: skip
    return collate(rows)


def updates(
    policy: LlamaForCausalLM, batch: Batch, objective: Objective, times: int
) -> tuple[list[float], list[float]]:
    """Loss and CPU seconds of each SGD step."""
    optimizer = torch.optim.SGD(policy.parameters(), lr=RATE)
    losses, seconds = [], []
    for _ in range(times):
        start = time.process_time()
        loss = objective(policy, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - start)
        losses.append(float(loss.detach()))
    return losses, seconds


def ours(policy: LlamaForCausalLM, batch: Batch) -> Tensor:
    """The loss as in training with a full store, whose reading another row measures; 0 for a single response."""
    terms = DPO()(rewards(policy, batch), batch.labels, batch.group)
    return terms.sum() / max(len(terms), 1)


def plain(policy: LlamaForCausalLM, batch: Batch) -> Tensor:
    """The same loss by its definition: each response alone, its head in chunks of 64 positions, pair by pair."""
    alone = [rewards(policy, batch.keep([i]), chunk=64)[0] for i in range(len(batch.ids))]
    right, wrong = alone[1::2], alone[::2]
    terms = [-logsigmoid(a - b) for a in right for b in wrong]
    return torch.stack(terms).mean() if terms else 0 * alone[0]


def rewards(policy: LlamaForCausalLM, batch: Batch, chunk: int = 4096) -> Tensor:
    logps = token_logps(policy, batch, chunk)
    return response_rewards(prefix_values(BETA * log_ratios(logps, torch.zeros_like(logps))), batch.length)


def refuse_other_losses(ours: Sequence[float], plain: Sequence[float]) -> None:
    """Compare losses. The second loss depends on the first update, so this compares gradients, too."""
    far = max(abs(a - b) for a, b in zip(ours, plain, strict=True))
    if not far <= FAR:
        raise SystemExit(f"losses are {far:.2g} from those of responses run one by one, more than {FAR:g}: no times")
