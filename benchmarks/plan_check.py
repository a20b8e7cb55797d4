"""Compares the peak memory that `plan` predicts with that of real training steps; fails if they differ by over 15 %.

Each row runs in a fresh process: random weights of the shape, the real log-probs and optimizer, in Lightning's order
(forward, clear gradients, backward), micro-batches all of one size. Memory is the process's peak resident memory minus
that before the model was made; on a GPU the most that torch allocated. One thread.

    python -m benchmarks.plan_check [--rows tiny smol smol-checkpointing] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM

from benchmarks.machine import peak_bytes
from lit_prm.commands.experiment import options
from lit_prm.commands.lightning import resolved_config
from lit_prm.commands.plan.lengths import MicroBatch
from lit_prm.commands.plan.memory import memory
from lit_prm.commands.plan.network import config_of, from_fields, weights, with_layers
from lit_prm.commands.plan.setup import Setup
from lit_prm.commands.plan.setup_of import setup_of
from lit_prm.data.batch import Batch
from lit_prm.models.logps import token_logps

FAR = 0.15
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TINY = {  # as lit_prm.training.worlds.tinymath makes it
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 288,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "vocab_size": 329,
    "tie_word_embeddings": True,
}
ROWS: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {  # scale, (responses, tokens of each), changes
    "tiny": ("tiny", (16, 131), {}),
    "tiny-long": ("tiny", (256, 200), {}),
    "smol": ("smol", (8, 300), {"precision": "32-true"}),
    "smol-bf16-mixed": ("smol", (8, 300), {"precision": "bf16-mixed"}),
    "smol-bf16-true": ("smol", (8, 300), {"precision": "bf16-true"}),
    "smol-checkpointing": ("smol", (8, 300), {"precision": "32-true", "checkpointing": True}),
    "smol-chunks": ("smol", (24, 300), {"precision": "bf16-mixed", "checkpointing": True}),
}
PROMPT = 0.3  # of a response's tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=sorted(ROWS), default=list(ROWS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the row to measure in this process
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measured(asked.measure)))
        return
    found = []
    print(f"{'':<20}{'predicted':>12}{'measured':>12}   MB")
    for row in asked.rows:
        fresh = [sys.executable, "-m", "benchmarks.plan_check", "--measure", row]
        # without it glibc's threshold grows with what is freed and keeps what was: its habit, not the step's need
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
        done = subprocess.run(fresh, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{row} could not be measured:\n{done.stderr[-2000:]}")
        took, needs = json.loads(done.stdout.splitlines()[-1]), predicted(row)
        off = needs / took - 1
        found.append({"row": row, "predicted": needs, "measured": took, "off": off})
        print(f"{row:<20}{needs / 1e6:>12.1f}{took / 1e6:>12.1f}   {off:+.1%}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"torch": torch.__version__, "rows": found}, indent=1) + "\n")
    raise SystemExit(any(abs(row["off"]) > FAR for row in found))


def setup(row: str) -> Setup:
    scale, _, changes = ROWS[row]
    resolved = yaml.safe_load(resolved_config(options("ce-8resp", scale, 0, [])))
    return replace(setup_of(resolved, on_gpu=torch.cuda.is_available()), **changes)


def shape(row: str) -> Any:
    return from_fields(TINY) if ROWS[row][0] == "tiny" else config_of(SMOL)[0]


def predicted(row: str) -> int:
    config, (rows, tokens) = shape(row), ROWS[row][1]
    outputs = rows * (tokens - round(PROMPT * tokens))
    found = memory(config, weights(config), setup(row), MicroBatch(rows * tokens, outputs))
    return found.total - found.parts["framework"]


def measured(row: str) -> int:
    torch.set_num_threads(1)
    made, config, size = setup(row), shape(row), ROWS[row][1]
    device = "cuda" if made.on_gpu else "cpu"
    _step(
        made, _model(_small(config), made, device), batch(2, 8, device), device
    )  # kernels and their libraries are loaded
    before = peak_bytes(device)
    _step(made, _model(config, made, device), batch(*size, device), device)
    return peak_bytes(device) - before


def _small(config: Any) -> Any:
    small = with_layers(config, 1)
    small.vocab_size = 64
    return small


def _model(config: Any, made: Setup, device: str) -> Any:
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=made.weights_in)
    if made.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


def _step(made: Setup, model: Any, responses: Batch, device: str) -> None:
    optimizer: Any = made.optimizer(model.parameters(), **dict(made.optimizer_options))
    for _ in range(2):
        for _ in range(2):  # micro-batches of one update
            with torch.autocast(device, torch.bfloat16, enabled=made.autocast):
                loss = token_logps(model, responses).sum()
            loss.backward()
        optimizer.step()
    # a third begins as Lightning's does: gradients of the second are there until its forward pass is over
    with torch.autocast(device, torch.bfloat16, enabled=made.autocast):
        loss = token_logps(model, responses).sum()
    optimizer.zero_grad()
    loss.backward()


def batch(rows: int, tokens: int, device: str) -> Batch:
    prompt = round(PROMPT * tokens)
    step = torch.full((rows, tokens), -1)
    step[:, prompt:] = 0
    none = torch.zeros(rows, dtype=torch.long)
    full = torch.full((rows,), tokens)
    ids = torch.randint(5, 60, (rows, tokens))
    prompts = torch.full((rows,), prompt)
    return Batch(ids.to(device), full, prompts, step.to(device), none.float(), none, none, none, none.float(), none)


if __name__ == "__main__":
    main()
