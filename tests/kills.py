"""Kills jobs at random moments and starts them again: `python -m tests.kills [--kills 50] [--seed 0]`.

Every job runs in a fork of this process, which has imported what it needs, so that kills meet work and not
imports. A moment is drawn uniformly from the job's duration, the signal is SIGKILL or SIGTERM; a job that was
faster is started anew, to be killed at another moment. What a restart leaves must be equal byte for byte to
what the unbroken job left: weights, metrics and scores, reference store, scored file. Prints a table and a
JSON line; ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from lit_prm.cli import main
from lit_prm.scoring import files
from lit_prm.tinymath import TinyMath
from tests.conftest import MICRO, make_half_right
from tests.integration.conftest import Desk, callbacks

RUN = Path("runs/tiny")
STORE = Path(".cache/reference/tiny.sqlite")


@dataclass(frozen=True)
class Job:
    """A command to run in a folder of its own, and the bytes that two equal jobs leave there alike."""

    name: str
    command: Callable[[Desk], list[str]]
    left: Callable[[Path], bytes]
    needs: tuple[str, ...] = ()  # what it finds there, copied from the workshop


def training(desk: Desk) -> list[str]:
    """12 updates in two epochs, validated four times, saved at every third; then the test sets."""
    config = callbacks("${run_dir}", 3)
    config["trainer"]["max_epochs"] = 2
    return ["exp", "ce-8resp", *desk.options(desk.config("rhythm", config), "--data.batch_size=32")]


def reference_pass(desk: Desk) -> list[str]:
    """No update, but the log-probs of every response, small parts at a time."""
    return ["exp", "base-0resp", *desk.options("--data.eval_tokens=256", "--trainer.enable_progress_bar=false")]


def scoring(desk: Desk) -> list[str]:
    """The training responses by the run of the workshop, in chunks of about a problem."""
    return ["score", str(RUN / "ce-8resp/seed-0"), str(desk.root / "rollouts/train.jsonl"), "--out", "scored.jsonl"]


def run_left(folder: Path) -> bytes:
    """Status, weights, metrics and judged scores of the one run in ``folder``, and the reference store."""
    (run,) = (folder / RUN).glob("*/seed-0")
    summary = json.loads((run / "summary.json").read_text())
    parts = [json.dumps([summary["status"], summary["metrics"]], sort_keys=True).encode(), store_left(folder)]
    parts += [path.read_bytes() for path in sorted((run / "scores").glob("*"))]
    last = run / "checkpoints" / "last.ckpt"
    if last.exists():
        weights = torch.load(last, weights_only=False)["state_dict"]
        parts += [name.encode() + weights[name].numpy().tobytes() for name in sorted(weights)]
    return b"".join(parts)


def store_left(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / STORE)) as store:
        rows = store.execute("SELECT address, logps FROM logps ORDER BY address").fetchall()
    return b"".join(address + logps for address, logps in rows)


JOBS = [  # another job is one more entry
    Job("training", training, run_left),
    Job("reference pass", reference_pass, run_left),
    Job("scoring", scoring, lambda folder: (folder / "scored.jsonl").read_bytes(), needs=("runs", ".cache")),
]


class Workshop:
    """The micro world, a finished run, and every job done once without a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.world = folder, folder / "world"
        TinyMath(**MICRO).build(self.world)
        make_half_right(self.world)
        self.wanted: dict[str, bytes] = {}
        self.seconds: dict[str, float] = {}
        for job in JOBS:
            desk = self.desk(job, "unbroken")
            ended(start(job, desk))  # a first time: caches of the file system
            if not (folder / "runs").exists():
                shutil.copytree(desk.folder / "runs", folder / "runs")
                shutil.copytree(desk.folder / ".cache", folder / ".cache")
            desk, began = self.desk(job, "unbroken"), time.monotonic()
            status = ended(start(job, desk))
            if status != 0:
                raise RuntimeError(f"the unbroken {job.name} ended with {status}; see {desk.folder}/log")
            self.seconds[job.name] = time.monotonic() - began
            self.wanted[job.name] = job.left(desk.folder)
            print(f"unbroken {job.name}: {self.seconds[job.name]:.1f} s", flush=True)

    def desk(self, job: Job, name: str) -> Desk:
        """An empty place to do ``job`` in."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for needed in job.needs:
            shutil.copytree(self.folder / needed, folder / needed)
        return Desk(folder, self.world)

    def kill(self, job: Job, draw: random.Random, name: str) -> tuple[signal.Signals, float, int, bool]:
        """How and when (share of its time) a job was killed, its exit status, whether its restart left the same."""
        status = 0
        while status == 0:
            number, moment = draw.choice([signal.SIGKILL, signal.SIGTERM]), draw.random()
            desk, began = self.desk(job, name), time.monotonic()
            child = start(job, desk)
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if time.monotonic() - began >= moment * self.seconds[job.name]:
                    os.kill(child, number)
                    done = os.waitpid(child, 0)
                    break
                time.sleep(0.005)
            else:
                self.seconds[job.name] = time.monotonic() - began  # neighbours have left the machine
            status = os.waitstatus_to_exitcode(done[1])
        same = ended(start(job, desk)) == 0 and job.left(desk.folder) == self.wanted[job.name]
        if same:
            shutil.rmtree(desk.folder)
        return number, moment, status, same


def start(job: Job, desk: Desk) -> int:
    """The process that does the job."""
    command = job.command(desk)
    if child := os.fork():
        return child
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(desk.folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        files.CHUNK = 1000
        main(command)
        status = 0
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def ended(child: int) -> int:
    """Its exit status; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kills(args: Sequence[str] | None = None) -> int:
    """The number of restarts that left something else."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(args)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    workshop, different = Workshop(folder), 0
    met: Counter[tuple[str, str, int]] = Counter()
    for n in range(asked.kills):
        job = JOBS[n % len(JOBS)]
        number, moment, status, same = workshop.kill(job, random.Random(f"{asked.seed} {n}"), f"kill-{n}")
        met[job.name, number.name, status] += 1
        different += not same
        verdict = "same bytes" if same else f"DIFFERENT: {folder}/kill-{n}"
        print(f"{n:3} {job.name:15} {number.name} at {moment:4.0%}: status {status:4}, then {verdict}", flush=True)
    print(f"\n{'job':15} {'signal':8} {'status':>6} {'kills':>5}")
    for (name, sent, status), count in sorted(met.items()):
        print(f"{name:15} {sent:8} {status:6} {count:5}")
    print(json.dumps({"kills": asked.kills, "seed": asked.seed, "different": different, "torch": torch.__version__}))
    if not different:
        shutil.rmtree(folder)
    return different


if __name__ == "__main__":
    raise SystemExit(kills() > 0)
