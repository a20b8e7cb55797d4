"""Measurements of the machine: clocks, peak memory, and the rate of matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lit_prm.data.batch import Batch
from lit_prm.models.flops import Work, backward, forward, shape_of


def clocks(device: str = "cpu") -> tuple[float, float]:
    """Wall seconds and busy seconds: CPU seconds of this process, on a GPU the wall seconds again."""
    if device == "cpu":
        return time.perf_counter(), time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter(), time.perf_counter()


def peak_bytes(device: str = "cpu") -> int:
    """Peak memory of this process so far: resident memory, on a GPU the memory that torch allocated.

    Not ``ru_maxrss``, which begins at the peak of the process that started this one.
    """
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def product_rate(dtype: torch.dtype, width: int, height: int, device: str = "cpu") -> float:
    """FLOPs a second at work of a matrix product of a model's own shapes, [tokens, width] times [width, height]."""
    tokens, times = (2048, 4) if device == "cpu" else (16384, 40)
    left, right = (torch.ones(n, width, dtype=dtype, device=device) for n in (tokens, height))
    torch.nn.functional.linear(left, right)
    took = []
    for _ in range(7):
        start = clocks(device)[1]
        for _ in range(times):
            torch.nn.functional.linear(left, right)
        took.append(clocks(device)[1] - start)
    return times * 2 * tokens * width * height / statistics.median(took)


def work_of(batch: Batch) -> Work:
    """The work that an update on this batch needs: each shared prompt once, the head on response tokens only."""
    once = Work.read(batch.length, int((batch.length - batch.prompt_length).sum()))
    owner = torch.as_tensor(batch.owner).tolist()
    again = [int(batch.prompt_length[row]) for row, p in enumerate(owner) if p in owner[:row]]
    repeated = Work.read(again, 0)
    return Work(once.tokens - repeated.tokens, once.contexts - repeated.contexts, once.outputs)


def update_flops(config: Any, work: Iterable[Work]) -> int:
    """FLOPs of the matrix products of updates with this work, forward and backward."""
    shape, whole = shape_of(config), sum(work, Work())
    return forward(shape, whole) + backward(shape, whole)
