"""CPU seconds of whole commands, of an old checkout against a new one, on the same settings of the world tinymath.

python benchmarks/half_time.py OLD NEW [--small] [--stages exp paper ...] [--pairs 1] [--json FILE]

OLD and NEW are checkouts, each with its own .venv. Each stage runs in a fresh folder with a copy of the checkout's
experiments/, whose scale tiny has the world's settings below. `paper` finds world and reference's log-probs cached.
CPU seconds are user and system time of all descendants, orphans included (Linux).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

WORLD = {"steps": 1000, "generator_steps": 600, "weaker_steps": 480}
ONLY_NEW = {"expert_steps": 1, "fluent_errors": 0.0}  # what the old world had: no experts' updates, slips alone
SMALL = {
    "steps": 60, "generator_steps": 50, "weaker_steps": 40, "train_problems": 160, "validation_problems": 10,
    "test_problems": 20, "other_test_problems": 6, "test_candidates": 16, "irrelevant_problems": 40,
}  # fmt: skip
NAMES = (
    "ce-1resp", "ce-2resp", "ce-4resp", "ce-8resp", "dpo-8resp", "kto-8resp", "nca-8resp", "infonca-8resp",
    "orm-8resp", "orm-bt-8resp", "biasednca-8resp", "base-0resp",
)  # fmt: skip
COMMANDS = {
    "help": ("fit", "--help"),
    "plan": ("plan", "ce-1resp", "--scale", "paper-8b"),
    "exp": ("exp", "ce-1resp", "--scale", "tiny"),
    "paper": ("paper", "--scale", "tiny", "--seeds", "1", "--only", "runs", "--names"),
}
SUBREAPER = 36  # of prctl: orphaned grandchildren become children of this process, so their seconds count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--small", action="store_true", help="a world of a minute, to try the script")
    parser.add_argument("--stages", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--names", nargs="+", default=list(NAMES), help="experiments of the stage paper")
    parser.add_argument("--pairs", type=int, default=1, help="repeats, old and new in turn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    checkouts = {"old": options.old.resolve(), "new": options.new.resolve()}
    found: dict[str, dict[str, list[float]]] = {stage: {"old": [], "new": []} for stage in options.stages}
    for _ in range(options.pairs):
        with tempfile.TemporaryDirectory() as folder:
            for which, checkout in checkouts.items():
                prepare(Path(folder) / which, checkout, WORLD | (SMALL if options.small else {}), which == "new")
            for stage in options.stages:
                names = options.names if stage == "paper" else []
                for which, checkout in checkouts.items():
                    found[stage][which].append(seconds(Path(folder) / which, checkout, [*COMMANDS[stage], *names]))
                print(stage, line(found[stage]), flush=True)
    if options.json:
        commits = {which: commit(checkout) for which, checkout in checkouts.items()}
        options.json.write_text(json.dumps({"commits": commits, "small": options.small, "cpu_s": found}, indent=1))


def prepare(folder: Path, checkout: Path, settings: dict[str, Any], new: bool) -> None:
    """A folder to run in, with the checkout's experiments and the world's settings in scale tiny."""
    shutil.copytree(checkout / "experiments", folder / "experiments")
    file = folder / "experiments" / "scale" / "tiny.yaml"
    scale = yaml.safe_load(file.read_text())
    scale["data"]["world"]["init_args"] |= settings | (ONLY_NEW if new else {})
    file.write_text("# tinymath as it is measured\n" + yaml.safe_dump(scale))


def seconds(folder: Path, checkout: Path, command: Sequence[str]) -> float:
    """CPU seconds of one command of the checkout and of every process that it started."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    before = _spent()
    with (folder / "log.txt").open("a") as log:
        python = str(checkout / ".venv" / "bin" / "python")
        path = {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        args = [python, "-m", "lit_prm", *command]
        done = subprocess.run(args, cwd=folder, env=os.environ | threads | path, stdout=log, stderr=log)
    while _reaped():
        pass
    if done.returncode and command[0] != "plan":  # whose status 1 says that the run does not fit
        raise SystemExit(f"{' '.join(args)} ended with status {done.returncode}:\n{(folder / 'log.txt').read_text()}")
    return _spent() - before


def _reaped() -> bool:
    """Wait for one more child; False if none is left."""
    try:
        os.wait()
    except ChildProcessError:
        return False
    return True


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def line(stage: dict[str, list[float]]) -> str:
    old, new = (sum(values) / len(values) for values in (stage["old"], stage["new"]))
    return f"{old:.1f} -> {new:.1f} CPU-s, {new / old:.2f} of the old"


def commit(checkout: Path) -> str:
    asked = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
