"""How time and memory of an update and of the reference store grow with size; each row runs in a fresh process.

python -m benchmarks.scaling [--rows responses length vocabulary store layouts] [--quick] [--json FILE]

  responses   of one problem, 1 to 16 of 256 tokens, DPO on all their pairs
  length      128 to 4,096 tokens of each of two responses
  vocabulary  8k to 128k words, four responses of 256 tokens
  store       10^4 to 10^7 tokens: writing, reading a batch of 64 at random (from the OS's cache), bytes on disk
  layouts     the largest of these stores with other tables and page sizes

Updates are those of the `toy` shape of `benchmarks.updates` (6 layers, hidden 256, 32,000 words), float32, one thread,
reference log-probs at hand. "to linear" is the growth since the first row divided by the growth of the size, "to
products" that divided by the growth of the matrix products: 1.00 is the law. Memory is the peak less what the process
had before the model. A time is printed only where two updates have the losses of responses run one by one, in chunks of
64 positions, and where a store gives back what was written. `--quick` takes the first sizes of a smaller shape.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import scaling_rows, scaling_store
from benchmarks.scaling_rows import Size
from benchmarks.scaling_store import LAYOUTS

SIZES = {
    "responses": [Size(n, 256, 32000) for n in (1, 2, 4, 8, 16)],
    "length": [Size(2, n, 32000) for n in (128, 256, 512, 1024, 2048, 4096)],
    "vocabulary": [Size(4, 256, n * 1024) for n in (8, 16, 32, 64, 128)],
}
STORES = (10**4, 10**5, 10**6, 10**7)  # tokens
KINDS = (*SIZES, "store", "layouts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--repeats", type=int, default=3, help="updates that are timed, after one that warms up")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)  # kind and number of a row, in this process
    asked = parser.parse_args()
    if asked.measure:
        kind, i = asked.measure
        print(json.dumps(jobs(kind, quick=asked.quick, repeats=asked.repeats)[int(i)]()))
        return
    tables = {kind: fresh_rows(kind, asked) for kind in asked.rows}
    print(f"\ntorch {torch.__version__}, SQLite {sqlite3.sqlite_version}, one thread, load {os.getloadavg()[0]:.1f}")
    if asked.json:
        versions = {"torch": torch.__version__, "sqlite": sqlite3.sqlite_version, "python": platform.python_version()}
        asked.json.write_text(json.dumps({"versions": versions, "quick": asked.quick, **tables}, indent=1) + "\n")


def jobs(kind: str, *, quick: bool, repeats: int) -> list[Callable[[], dict[str, Any]]]:
    """The function that measures each row, in order of size."""
    most = 2 if quick else None
    if kind in SIZES:
        shape = "tiny" if quick else "toy"
        return [lambda s=size: scaling_rows.measured(s, shape, repeats) for size in SIZES[kind][:most]]  # type: ignore[misc]
    stores = STORES[:most]
    if kind == "store":
        return [lambda n=tokens: scaling_store.measured(n) for tokens in stores]  # type: ignore[misc]
    return [lambda a=layout: scaling_store.measured(stores[-1], a) for layout in LAYOUTS[:most]]  # type: ignore[misc]


def fresh_rows(kind: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a table, each measured in a process of its own and printed when finished."""
    show, found = (of_update if kind in SIZES else of_store), list[dict[str, Any]]()
    print(f"\n{kind:<16}" + (UPDATE if kind in SIZES else STORE), flush=True)
    for i in range(len(jobs(kind, quick=asked.quick, repeats=asked.repeats))):
        found.append(fresh(kind, i, asked))
        print(show(kind, found), flush=True)
    if kind in SIZES:
        print(growth(kind, found))
    return found


def fresh(kind: str, i: int, asked: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--measure", kind, str(i), "--repeats", str(asked.repeats)]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # without the last, glibc keeps some of what was freed: its habit, not the update's need
    environment = {**os.environ, **threads, "HF_HUB_OFFLINE": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        command + ["--quick"] * asked.quick, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"row {i} of {kind} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


UPDATE = f"{'CPU s':>8}{'to linear':>11}{'to products':>13}{'MB':>8}{'to linear':>11}"
STORE = f"{'tokens':>12}{'write s':>9}{'CPU s':>8}{'read ms':>9}{'CPU ms':>8}{'bytes/token':>13}"


def of_update(kind: str, rows: Sequence[dict[str, Any]]) -> str:
    row = rows[-1]
    linear, products = (against(rows, "seconds", law) for law in (kind, "products"))
    megabytes, memory = row["bytes"] / 1e6, against(rows, "bytes", kind)
    return f"{row[kind]:<16}{row['seconds']:8.2f}{linear:11.2f}{products:13.2f}{megabytes:8.0f}{memory:11.2f}"


def against(rows: Sequence[dict[str, Any]], what: str, law: str) -> float:
    """Growth of ``what`` since the first row, divided by the growth that the law predicts."""
    return float((rows[-1][what] / rows[0][what]) / (rows[-1][law] / rows[0][law]))


def growth(kind: str, rows: Sequence[dict[str, Any]]) -> str:
    first = next(row for row in rows if row["responses"] > 1 or row is rows[-1])  # a response alone has no pair
    pairs = [Size(row["responses"], row["length"], row["vocabulary"]).pairs for row in (first, rows[-1])]
    told = f"{kind} {rows[-1][kind] / first[kind]:.1f}x, CPU seconds {rows[-1]['seconds'] / first['seconds']:.1f}x"
    more = f", pairs {pairs[1] / pairs[0]:.1f}x" if kind == "responses" and pairs[0] else ""
    return f"from {first[kind]} to {rows[-1][kind]}: {told}{more}"


def of_store(kind: str, rows: Sequence[dict[str, Any]]) -> str:
    row = rows[-1]
    return (
        f"{row['layout']:<16}{row['tokens']:12,}{row['write_wall']:9.2f}{row['write_cpu']:8.2f}"
        f"{1000 * row['read_wall']:9.2f}{1000 * row['read_cpu']:8.2f}{row['bytes_per_token']:13.2f}"
    )


if __name__ == "__main__":
    main()
