"""Stops the very first run of a fresh clone and starts it again: `python -m tests.first_stops [--stops 20]`.

Every stop meets an empty folder with the experiment files alone: the command imports everything, builds its world,
makes `mlflow.db` and trains. A moment is drawn uniformly from the first 30 seconds, or from the run if shorter; the
signal is SIGINT to the whole group (Ctrl-C), SIGTERM or SIGKILL. The same command must then go on: status 0, the run
finished, metrics, scores and weights as of an unbroken run, one finished run in MLflow. Prints a line for each stop and
a JSON line; ends with status 1 if one did not go on.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from tests.conftest import MICRO
from tests.integration.conftest import REPOSITORY, Desk
from tests.kills import run_left

FIRST = 30.0  # seconds
WORLD = {"class_path": "lit_prm.training.worlds.tinymath.TinyMath", "init_args": MICRO}


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The first run, or the next one, in a process group of its own; it appends what it says to `log`."""
    folder.mkdir(exist_ok=True)
    desk = Desk(folder, folder / "world")
    micro = desk.config("micro", {"data": {"world": WORLD, "root": "world"}})
    sizes = [option for option in desk.micro if not option.startswith(("--data.world", "--data.root"))]
    command = [sys.executable, "-m", "lit_prm", "exp", "ce-8resp", micro, *sizes]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(REPOSITORY)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=listen
        )


def listen() -> None:
    """A job in the background, which a shell starts deaf to Ctrl-C, would leave that to its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(process: subprocess.Popen[bytes], number: signal.Signals, after: float) -> int:
    """The exit status of the run that gets the signal after so many seconds, if it is still at work."""
    try:
        return process.wait(after)
    except subprocess.TimeoutExpired:
        send = os.killpg if number == signal.SIGINT else os.kill
        send(process.pid, number)
        return process.wait()


def recorded(folder: Path) -> list[str]:
    """The statuses of the runs in MLflow's database, apart from those that a stop left without an end."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return [status for (status,) in database.execute("SELECT status FROM runs") if status == "FINISHED"]


def went_on(folder: Path, wanted: bytes) -> str:
    """Start the same command again; empty if it ends as an unbroken run does, else what is wrong."""
    if status := start(folder).wait():
        return f"status {status}, {folder}/log"
    if run_left(folder) != wanted:
        return f"other results, {folder}"
    return "" if recorded(folder) == ["FINISHED"] else f"MLflow has the runs {recorded(folder)}, {folder}"


def stops(args: Sequence[str] | None = None) -> int:
    """The number of runs that did not go on."""
    parser = argparse.ArgumentParser(prog="python -m tests.first_stops", description=__doc__, allow_abbrev=False)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(args)
    place, began = Path(tempfile.mkdtemp(prefix="first-stops-")), time.monotonic()
    if status := start(place / "unbroken").wait():
        raise RuntimeError(f"the unbroken run ended with {status}; see {place}/unbroken/log")
    seconds, wanted, failed = time.monotonic() - began, run_left(place / "unbroken"), 0
    print(f"unbroken: {seconds:.1f} s", flush=True)
    for n in range(asked.stops):
        draw = random.Random(f"{asked.seed} {n}")
        number, after = (
            draw.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL)),
            draw.random() * min(FIRST, seconds),
        )
        folder = place / f"stop-{n}"
        status = stop(start(folder), number, after)
        made = [name for name in ("world", "mlflow.db", "runs") if (folder / name).exists()]
        wrong = went_on(folder, wanted)
        failed += bool(wrong)
        told = f"{n:3} {number.name} after {after:4.1f} s: status {status:4}, made {', '.join(made) or 'nothing'}"
        print(f"{told}; {'DID NOT GO ON: ' + wrong if wrong else 'goes on'}", flush=True)
        if not wrong:
            shutil.rmtree(folder)
    print(json.dumps({"stops": asked.stops, "failed": failed, "seed": asked.seed, "torch": torch.__version__}))
    if not failed:
        shutil.rmtree(place)
    return failed


if __name__ == "__main__":
    raise SystemExit(stops() > 0)
