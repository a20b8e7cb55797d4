"""Time and memory of an update beside TRL's: the same losses on the same tokens, compared before they are timed.

python -m benchmarks.updates dpo ce kto sweep tiny [--dtype float32] [--rounds 3] [--shape smollm2] [--json FILE]
python -m benchmarks.updates long --shape 1.5b --device cuda --dtype bfloat16      (on a GPU; never run yet)

  dpo   DPO on all pairs of 8 responses (4 right)        DPOTrainer, sigmoid, 16 pairs a step
  ce    CE on right/wrong labels, disjoint pairs         DPOTrainer, bco_pair, 4 pairs a step (twice our loss)
  kto   KTO without its KL, on single responses          KTOTrainer, apo_zero_unpaired, 8 x 4 responses a step
  sweep two epochs of DPO, KTO without KL, NCA and CE on the same 16 responses, one after the other in one process
  long  dpo of 4 problems an update, responses of 100 to 500 tokens
  tiny  DPO on 64 short responses at the shape of scale tiny, ours alone: what the trainer costs a small model

Weights are random by seed; the optimizer is SGD without momentum, beta is 0.05, so an update is a gradient. Every
measurement is a process of its own and lasts from the end of its imports to its last update, with loading, tokenising
and reference log-probs. The sides take turns.
Our side is the trainer, module and data module that `make exp` runs: `cold` with an empty store of reference log-probs,
`warm` with a full one, `bare` the same maths in a plain loop, all with `data.share_prompts`. TRL runs `online` and with
`precompute_ref_log_probs`.
No time is printed unless losses agree to 2e-5 and updates, which are gradients, to 2e-5 of their length. In bfloat16
both sides round, so both are compared with our float32. Our losses and updates may be 1.5 times as far from it as TRL's
(a loss 2^-8 in any case); neither side may be farther than 2^-6 in losses and 5 % in updates. `--sides` takes two more
sides of TRL's, `trl reordered` (a step's pairs backwards) and `trl in pieces` (a quarter of them at a time), which show
how far TRL is from itself. `--rounds 0` shows the times of the comparing runs, which also write gradients: for jobs
that take hours. The last lines say which measured numbers meet their limits (docs/performance.md), by CPU time, on a
GPU by wall time, which then replaces CPU time in all columns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.acceptance import judged
from benchmarks.updates_jobs import JOBS, SHAPES, prepare
from benchmarks.updates_work import SIDES

TRUTH = "float32"
ALONE = ("ours warm", "ours bare")
USUAL = ("trl online", "trl precompute", "ours cold", *ALONE)
CLOSE = {"loss": 2e-5, "update": 2e-5}
# bfloat16, from float32's: the first side at most so far, the others at most 1.5 times as far as it
ROUNDED = {"loss": 2.0**-6, "update": 0.05}
TIMES, LAST_BIT = 1.5, {"loss": 2.0**-8, "update": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="+", choices=JOBS)
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=USUAL)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = [measure(job, dtype, asked) for dtype in asked.dtype for job in asked.jobs]
    print("", *judged(found), sep="\n")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if not all(table["equal"] for table in found):
        raise SystemExit(1)


def measure(job: str, dtype: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Run all sides of one job in turns, compare their results and print their table."""
    shape, sides = JOBS[job][0].shape or asked.shape, sides_of(job, asked)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(job, folder, shape, asked.updates)
        truth = {TRUTH: run(job, "ours cold", folder, "float32", asked, TRUTH)} if dtype == "bfloat16" else {}
        if "ours cold" not in sides:
            run(job, "ours cold", folder, dtype, asked)  # or the first run of a warm side would fill the store
        first = truth | {side: run(job, side, folder, dtype, asked, side) for side in sides}
        equal = verify(first, folder)
        table = {"job": job, "dtype": dtype, "shape": shape, "equality": equal, **machine(asked)}
        table["equal"] = all(row["close"] for row in equal)
        if not table["equal"]:
            return table
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(asked.rounds):  # the first runs warmed the file cache and, of ours, the store
            for side in sides:
                runs[side].append(run(job, side, folder, dtype, asked))
        if not asked.rounds:
            runs = {side: [first[side]] for side in sides}
        tokens = next((found["tokens"] for found in first.values() if "tokens" in found), 0)  # the same on all sides
        table["sides"] = {side: summary(found, tokens) for side, found in runs.items()}
    show(table)
    return table


def sides_of(job: str, asked: argparse.Namespace) -> list[str]:
    return [side for side in asked.sides if JOBS[job][0].trl or side in ALONE]


def run(job: str, side: str, folder: Path, dtype: str, asked: argparse.Namespace, keep: str = "") -> dict[str, Any]:
    """One measurement in a fresh process, which writes its gradients under the name ``keep``."""
    if side == "ours cold":
        for file in folder.glob("store.sqlite*"):
            file.unlink()
    how = [dtype, str(asked.threads), asked.device, str(folder / f"{keep}.f32") if keep else ""]
    command = [sys.executable, "-m", "benchmarks.updates_work", job, side, str(folder), *how]
    threads = {name: str(asked.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": asked.device}
    done = subprocess.run(command, env={**os.environ, **threads, **quiet}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} of {job} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {job} {keep or side}: {found['wall']:.1f} s, {found['cpu']:.1f} CPU-s", file=sys.stderr)
    return found


def verify(first: dict[str, dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """True if every side has the losses and gradients of the first one, on the same token ids.

    If the first side is `TRUTH`, all others round. The distance of the second side (TRL's, if it runs) from it then
    decides how far an update may be.
    """
    one, *others = first
    rows: list[dict[str, Any]] = []
    for side in others:
        apart = float(np.max(np.abs(np.subtract(first[side]["losses"], first[one]["losses"]))))
        distance = far(folder / f"{side}.f32", folder / f"{one}.f32")
        same = first[side]["ids"] == first[one]["ids"]
        allowed = dict(CLOSE)
        if one == TRUTH:
            allowed = {
                what: min(most, max(TIMES * rows[0][what], LAST_BIT[what])) if rows else most
                for what, most in ROUNDED.items()
            }
        row = {"side": side, "ids": same, "loss": apart, "update": distance, "allowed": allowed}
        row["close"] = same and apart <= allowed["loss"] and distance <= allowed["update"]
        if rows and one == TRUTH:
            row["between"] = far(folder / f"{side}.f32", folder / f"{others[0]}.f32")
        rows.append(row)
        print(
            f"  {side} against {one}: ids {'equal' if same else 'DIFFER'}, loss {apart:.1e} "
            f"(<= {allowed['loss']:.1e}), update {distance:.1e} (<= {allowed['update']:.1e})"
            + (f", {row['between']:.1e} from {others[0]}" if "between" in row else "")
            + ("" if row["close"] else "  NOT EQUAL: no times")
        )
    return rows


def far(one: Path, other: Path) -> float:
    """Distance of two files of numbers, as a share of the length of the second; they may be larger than memory."""
    left, right = (np.memmap(file, np.float32, "r") for file in (one, other))
    if len(left) != len(right):
        raise ValueError(f"{one} holds {len(left):,} numbers, {other} {len(right):,}: not the same updates")
    apart = length = 0.0
    for i in range(0, len(right), 1 << 22):
        known = right[i : i + (1 << 22)].astype(np.float64)
        apart += float(((left[i : i + (1 << 22)] - known) ** 2).sum())
        length += float((known**2).sum())
    return math.sqrt(apart / length)


MEDIANS = ("wall", "cpu", "first_update", "first_cpu", "updates_cpu", "peak_gb")


def summary(runs: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
    """Medians, and the range of wall seconds; tokens per second leave loading out."""
    middle = {key: statistics.median(run[key] for run in runs) for key in MEDIANS}
    spread = [min(r["wall"] for r in runs), max(r["wall"] for r in runs)]
    return {**middle, "range": spread, "tokens_per_s": tokens / middle["updates_cpu"], **of_floor(runs)}


def of_floor(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The measured rate of matrix products and the updates' share of it, if the side counted its products."""
    counted = [run for run in runs if run.get("flops")]
    if not counted:
        return {}
    share = statistics.median(run["flops"] / run["rate"] / run["updates_cpu"] for run in counted)
    return {"of_floor": share, "gflops": statistics.median(run["rate"] for run in counted) / 1e9}


def machine(asked: argparse.Namespace) -> dict[str, Any]:
    packages = {name: installed(name) for name in ("torch", "transformers", "lightning", "trl")}
    how = {"threads": asked.threads, "rounds": asked.rounds, "device": asked.device}
    return {**how, "load": os.getloadavg()[0], "versions": packages}


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None  # ours can be timed without TRL


def show(table: dict[str, Any]) -> None:
    what = ", ".join(table[key] for key in ("job", "dtype", "shape"))
    timed = f"median of {table['rounds']}" if table["rounds"] else "the verifying runs"
    print(f"\n{what}, {table['threads']} thread(s), {timed}")
    print(f"{'':<16}{'wall s':>8}{'CPU s':>8}{'to first':>9}{'peak GB':>9}{'tokens/s':>10}{'of floor':>9}")
    for side, row in table["sides"].items():
        share = f"{row['of_floor']:9.0%}  of {row['gflops']:.0f} GFLOP/s" if "of_floor" in row else ""
        print(
            f"{side:<16}{row['wall']:8.1f}{row['cpu']:8.1f}{row['first_update']:9.1f}{row['peak_gb']:9.2f}"
            f"{row['tokens_per_s']:10.0f}{share}"
        )
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
