"""How long does an update take, and how much memory, beside TRL's? The same losses on the same tokens, verified first.

python -m benchmarks.updates dpo [ce kto sweep] [--dtype float32] [--rounds 3] [--shape smollm2] [--json FILE]

  dpo   DPO on all pairs of 8 responses (4 right)        DPOTrainer, sigmoid, 16 pairs a step
  ce    CE on right/wrong labels, disjoint pairs         DPOTrainer, bco_pair, 4 pairs a step (twice our loss)
  kto   KTO without its KL, on single responses          KTOTrainer, apo_zero_unpaired, 8 x 4 responses a step
  sweep two epochs of DPO, KTO without KL, NCA and CE on the same 32 responses, one after the other in one process

Seeded random weights, SGD without momentum, beta 0.05: an update is a gradient. Every measurement is a process of its
own, from behind its imports to its last update (loading, tokenising and reference log-probs count), the sides in turns.
Our side is the trainer, module and data module that `make exp` runs: `cold` with an empty store of reference log-probs,
`warm` with a full one, `bare` the same maths in a plain loop. TRL runs `online` and with `precompute_ref_log_probs`.
No time is printed unless losses agree to 2e-5 and updates to 2e-5 of their length (bfloat16: to twice the distance of
two TRL runs whose pairs are in another order). `--rounds 0` verifies only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.updates_work import JOBS, SHAPES, prepare

SIDES = ("trl online", "trl precompute", "ours cold", "ours warm", "ours bare")
CLOSE = {"loss": 2e-5, "update": 2e-5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="+", choices=JOBS)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = [measure(job, asked) for job in asked.jobs]
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if not all(table["equal"] for table in found):
        raise SystemExit(1)


def measure(job: str, asked: argparse.Namespace) -> dict[str, Any]:
    """All sides of one job in turns, their equality and their table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(job, folder, asked.shape, asked.updates)
        order = ["trl reordered"] if asked.dtype == "bfloat16" else []
        first = {side: run(job, side, folder, asked) for side in [*asked.sides, *order]}
        equal = verify(first, folder, asked.dtype)
        table = {"job": job, "dtype": asked.dtype, "shape": asked.shape, "equality": equal, **machine(asked)}
        table["equal"] = all(row["close"] for row in equal)
        if not table["equal"] or not asked.rounds:
            return table
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in asked.sides}
        for _ in range(asked.rounds):  # the first runs warmed the file cache and, of ours, the store
            for side in asked.sides:
                runs[side].append(run(job, side, folder, asked))
        table["sides"] = {side: summary(found) for side, found in runs.items()}
    show(table)
    return table


def run(job: str, side: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a fresh process."""
    if side == "ours cold":
        for file in folder.glob("store.sqlite*"):
            file.unlink()
    command = [sys.executable, "-m", "benchmarks.updates_work", job, side, str(folder), asked.dtype, str(asked.threads)]
    threads = {name: str(asked.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, env={**os.environ, **threads, **quiet}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} of {job} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {job} {side}: {found['wall']:.1f} s, {found['cpu']:.1f} CPU-s", file=sys.stderr)
    return found


def verify(first: dict[str, dict[str, Any]], folder: Path, dtype: str) -> list[dict[str, Any]]:
    """Whether every side made the same updates as the first one, on the same token ids."""
    sides = list(first)
    one = np.load(folder / f"{sides[0]}.npy")
    start = np.resize(np.load(folder / "start.npy"), one.shape)  # once for each policy trained
    length = float(np.linalg.norm(one - start))
    far = {side: float(np.linalg.norm(np.load(folder / f"{side}.npy") - one)) / length for side in sides[1:]}
    allowed = dict(CLOSE)
    if dtype == "bfloat16":
        losses = [first[side]["losses"] for side in (sides[0], "trl reordered")]
        apart = max(abs(a - b) for a, b in zip(*losses, strict=True))
        allowed = {"loss": 2 * max(apart, 2**-9), "update": 2 * far.pop("trl reordered")}
    rows = []
    for side, distance in far.items():
        losses = zip(first[side]["losses"], first[sides[0]]["losses"], strict=True)
        apart = max(abs(a - b) for a, b in losses)
        same = first[side]["ids"] == first[sides[0]]["ids"]
        close = same and apart <= allowed["loss"] and distance <= allowed["update"]
        rows.append({"side": side, "ids": same, "loss": apart, "update": distance, "allowed": allowed, "close": close})
        print(
            f"  {side} against {sides[0]}: ids {'equal' if same else 'DIFFER'}, loss {apart:.1e} "
            f"(<= {allowed['loss']:.1e}), update {distance:.1e} (<= {allowed['update']:.1e})"
            f"{'' if close else '  NOT EQUAL: no times'}"
        )
    return rows


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, and the range of wall seconds."""
    middle = {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu", "first_update", "peak_gb")}
    return {**middle, "range": [min(r["wall"] for r in runs), max(r["wall"] for r in runs)], "of_floor": of_floor(runs)}


def of_floor(runs: list[dict[str, Any]]) -> float | None:
    """Share of the measured matrix product rate that the updates reach, where the side counted its products."""
    shares = [run["flops"] / run["rate"] / run["updates_cpu"] for run in runs if run.get("flops")]
    return statistics.median(shares) if shares else None


def machine(asked: argparse.Namespace) -> dict[str, Any]:
    packages = {name: version(name) for name in ("torch", "transformers", "lightning", "trl")}
    return {"threads": asked.threads, "rounds": asked.rounds, "load": os.getloadavg()[0], "versions": packages}


def show(table: dict[str, Any]) -> None:
    what = ", ".join(table[key] for key in ("job", "dtype", "shape"))
    print(f"\n{what}, {table['threads']} thread(s), median of {table['rounds']}")
    print(f"{'':<16}{'wall s':>8}{'CPU s':>8}{'to first':>9}{'peak GB':>9}{'of floor':>9}")
    for side, row in table["sides"].items():
        share = "" if row["of_floor"] is None else f"{row['of_floor']:9.0%}"
        print(f"{side:<16}{row['wall']:8.1f}{row['cpu']:8.1f}{row['first_update']:9.1f}{row['peak_gb']:9.2f}{share:>9}")
    theirs = [row for side, row in table["sides"].items() if side.startswith("trl")]
    best = min(theirs, key=lambda row: row["cpu"], default=None)
    for side, row in table["sides"].items():
        if best and side.startswith("ours"):
            print(
                f"{side}: {best['wall'] / row['wall']:.2f}x by wall, {best['cpu'] / row['cpu']:.2f}x by CPU time, "
                f"{row['peak_gb'] / best['peak_gb']:.0%} of the memory of TRL's faster setting"
            )


if __name__ == "__main__":
    main()
