"""Compares the time of an update with its floor: forward and backward pass against pure matrix products.

python benchmarks/update_floor.py [--threads 1] [--repeats 9] [--json FILE]

The floor: 2 FLOPs per weight and token forward, 6 with the backward pass (the head for response tokens only), at the
rate this machine multiplies matrices of the model's own shapes. Times are CPU seconds of this process, the median of
the repeats; shapes are those of tinymath.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lit_prm.data.batch import Batch
from lit_prm.models.logps import token_logps

PROMPT, RESPONSE, HIDDEN, LAYERS, VOCABULARY = 26, 32, 96, 3, 330


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = llama()
    rows = []
    for size in (16, 64):
        batch, tokens = responses(size), size * (PROMPT + RESPONSE)
        rate = 2 * tokens * HIDDEN * 3 * HIDDEN / seconds(product(tokens), asked.repeats)
        for what, flops, run in (
            ("forward", 2, lambda b=batch: forward(model, b)),
            ("forward + backward", 6, lambda b=batch: update(model, b)),
        ):
            took = seconds(run, asked.repeats)
            floor = flops * multiplied(model, size) / rate
            rows.append(
                {"responses": size, "what": what, "tokens_per_cpu_second": tokens / took, "of_floor": floor / took}
            )
            print(
                f"{size:4d} responses  {what:<18}  {tokens / took:9.0f} tokens/CPU-s  {floor / took:4.0%} of the floor"
            )
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s, {asked.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    if asked.json:
        asked.json.write_text(json.dumps({"gflops": rate / 1e9, "rows": rows}, indent=1) + "\n")


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=3 * HIDDEN, num_hidden_layers=LAYERS,
            num_attention_heads=3, max_position_embeddings=256, tie_word_embeddings=True,
        )
    )  # fmt: skip


def multiplied(model: LlamaForCausalLM, size: int) -> int:
    """Weights times the tokens they are multiplied with: all tokens in layers, response tokens in the head."""
    layers = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    return int(size * ((PROMPT + RESPONSE) * layers + RESPONSE * HIDDEN * VOCABULARY))


def responses(size: int) -> Batch:
    width = PROMPT + RESPONSE
    step = torch.full((size, width), -1)
    step[:, PROMPT:] = 0
    zeros = torch.zeros(size, dtype=torch.long)
    ids = torch.randint(5, VOCABULARY, (size, width))
    full = torch.full((size,), width)
    return Batch(ids, full, torch.full((size,), PROMPT), step, zeros.float(), zeros, zeros, zeros, zeros.float(), zeros)


def forward(model: LlamaForCausalLM, batch: Batch) -> None:
    with torch.no_grad():
        token_logps(model, batch)


def update(model: LlamaForCausalLM, batch: Batch) -> None:
    model.zero_grad()
    token_logps(model, batch).sum().backward()


def product(tokens: int) -> Callable[[], None]:
    left, right, out = torch.ones(tokens, HIDDEN), torch.ones(HIDDEN, 3 * HIDDEN), torch.empty(tokens, 3 * HIDDEN)

    def run() -> None:
        torch.mm(left, right, out=out)

    return run


def seconds(run: Callable[[], None], repeats: int) -> float:
    """Median CPU seconds of one call, after a warm-up call."""
    run()
    took = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        took.append(time.process_time() - start)
    return statistics.median(took)


if __name__ == "__main__":
    main()
