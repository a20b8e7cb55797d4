"""Kills jobs at random moments and starts them again: `python -m tests.kills [--kills 50] [--jobs NAME ...]`.

Every job runs in a fork of this process, which has imported what it needs, so that kills meet work and not
imports. A moment is drawn uniformly from the job's duration, the signal is SIGKILL or SIGTERM; a job that was
faster is started anew, to be killed at another moment. Half of the restarts are killed, too, in the first half of
the job's time, if they are still at work. What the last one leaves must be equal byte for byte to what the unbroken
job left: weights, metrics and scores, reference store, scored and sampled files. Prints a table and a JSON line;
ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from lit_prm.commands.main import main
from lit_prm.scoring import files
from lit_prm.training.worlds.tinymath import TinyMath
from tests.conftest import MICRO, make_half_right
from tests.integration.conftest import REPOSITORY, Desk, callbacks

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
RUN = Path("runs/tiny")
STORE = Path(".cache/reference/tiny.sqlite")
SAMPLED = "rollouts.jsonl.gz"


@dataclass(frozen=True)
class Job:
    """A command to run in a folder of its own, and the bytes that two equal jobs leave there alike."""

    name: str
    command: Callable[[Desk], list[str]]
    left: Callable[[Path], bytes]
    saved: str  # files that a killed one leaves for its restart, if it had come so far
    needs: tuple[str, ...] = ()  # what it finds there, copied from the workshop


def training(desk: Desk) -> list[str]:
    """48 updates of two parts in eight epochs, validated 16 times, saved at every third; then the test sets."""
    config = callbacks("${run_dir}", 3)
    config["trainer"]["max_epochs"] = 8
    sizes = ["--data.batch_size=32", "--trainer.accumulate_grad_batches=2"]
    return ["exp", "ce-8resp", *desk.options(desk.config("rhythm", config), *sizes)]


def reference_pass(desk: Desk) -> list[str]:
    """No update, but the log-probs of every response, small parts at a time."""
    return ["exp", "base-0resp", *desk.options("--data.eval_tokens=256", "--trainer.enable_progress_bar=false")]


def scoring(desk: Desk) -> list[str]:
    """The training responses by the run of the workshop, in chunks of about a problem."""
    return ["score", str(RUN / "ce-8resp/seed-0"), str(desk.root / "rollouts/train.jsonl"), "--out", "scored.jsonl"]


def rollouts(desk: Desk) -> list[str]:
    """Samples of the training problems, several to a request, from a server that answers alike each time."""
    options = ["--n", "6", "--per-request", "4", "--concurrency", "4", "--out", SAMPLED]
    return ["sample", "fake", str(desk.root / "rollouts/train.jsonl"), "--server", server(), *options]


@cache
def server() -> str:
    """Where it listens, in a process of its own that ends with this one."""
    command = [sys.executable, "-m", "tests.fake_server", "0.1"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    atexit.register(process.terminate)
    assert process.stdout is not None
    return process.stdout.readline().strip()


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


def scored_left(folder: Path) -> bytes:
    return (folder / "scored.jsonl").read_bytes()


def sampled_left(folder: Path) -> bytes:
    return (folder / SAMPLED).read_bytes()


JOBS = [  # another job is one more entry
    Job("training", training, run_left, f"{RUN}/*/seed-0/checkpoints/last.ckpt"),
    Job("reference pass", reference_pass, run_left, str(STORE)),
    Job("scoring", scoring, scored_left, "scored.jsonl.parts/*.jsonl", needs=("runs", ".cache")),
    Job("rollouts", rollouts, sampled_left, f"{SAMPLED}.parts/*.jsonl"),
]


class Killed(NamedTuple):
    """One kill and its restart."""

    signal: signal.Signals
    moment: float  # share of the job's time
    status: int  # of the killed process
    went_on: bool  # the restart found what was saved
    twice: bool  # and was killed
    same: bool  # it left what the unbroken job left


class Workshop:
    """The micro world, a finished run where one is needed, and every job done without a kill."""

    def __init__(self, folder: Path, jobs: Sequence[Job]) -> None:
        self.folder, self.world = folder, folder / "world"
        TinyMath(**MICRO).build(self.world)
        make_half_right(self.world)
        self.wanted: dict[str, bytes] = {}
        self.seconds: dict[str, float] = {}
        if needed := {name for job in jobs for name in job.needs}:
            desk = self.desk(JOBS[0], "unbroken")
            ended(start(JOBS[0], desk))
            for name in needed:
                shutil.copytree(desk.folder / name, folder / name)
        for job in jobs:
            ended(start(job, self.desk(job, "unbroken")))  # a first time: caches of the file system
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

    def kill(self, job: Job, draw: random.Random, name: str) -> Killed:
        """Kill the job, start it again, compare; what differs stays in the folder ``name``."""
        status = 0
        while status == 0:
            number, moment = draw.choice(SIGNALS), draw.random()
            desk = self.desk(job, name)
            status, seconds = killed(job, desk, number, moment * self.seconds[job.name])
            if status == 0:
                self.seconds[job.name] = seconds  # neighbours have left the machine
        went_on = any(desk.folder.glob(job.saved))
        twice = draw.random() < 0.5
        if twice:
            again, _ = killed(job, desk, draw.choice(SIGNALS), draw.random() / 2 * self.seconds[job.name])
            twice = again != 0
        same = ended(start(job, desk)) == 0 and job.left(desk.folder) == self.wanted[job.name]
        if same:
            shutil.rmtree(desk.folder)
        return Killed(number, moment, status, went_on, twice, same)


def killed(job: Job, desk: Desk, number: signal.Signals, after: float) -> tuple[int, float]:
    """Exit status and seconds of the job that gets the signal ``after`` seconds, if it is still at work."""
    child, began = start(job, desk), time.monotonic()
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() - began >= after:
            os.kill(child, number)
            done = os.waitpid(child, 0)
            break
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(done[1]), time.monotonic() - began


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
    parser.add_argument("--jobs", nargs="+", choices=[job.name for job in JOBS], help="only these")
    asked = parser.parse_args(args)
    jobs = [job for job in JOBS if job.name in (asked.jobs or [job.name])]
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    workshop, different, twice = Workshop(folder, jobs), 0, 0
    met: Counter[tuple[str, str, int, bool]] = Counter()
    for n in range(asked.kills):
        job = jobs[n % len(jobs)]
        found = workshop.kill(job, random.Random(f"{asked.seed} {n}"), f"kill-{n}")
        met[job.name, found.signal.name, found.status, found.went_on] += 1
        different, twice = different + (not found.same), twice + found.twice
        verdict = "same bytes" if found.same else f"DIFFERENT: {folder}/kill-{n}"
        told = f"{job.name:15} {found.signal.name} at {found.moment:4.0%}: status {found.status:4}"
        restart = f"{'goes on' if found.went_on else 'anew':7} {'and is killed again' if found.twice else ''}"
        print(f"{n:3} {told}, {restart:27}, {verdict}", flush=True)
    print(f"\n{'job':15} {'signal':8} {'status':>6} {'restart':8} {'kills':>5}")
    for (name, sent, status, went_on), count in sorted(met.items()):
        print(f"{name:15} {sent:8} {status:6} {'goes on' if went_on else 'anew':8} {count:5}")
    counts = {"kills": asked.kills, "killed again": twice, "different": different}
    print(json.dumps({**counts, "seed": asked.seed, "torch": torch.__version__}))
    if not different:
        shutil.rmtree(folder)
    return different


if __name__ == "__main__":
    raise SystemExit(kills() > 0)
