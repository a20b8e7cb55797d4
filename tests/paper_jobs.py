"""Runs of the paper's runner that take no time; importable by its worker processes."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from lit_prm.commands.paper.schedule import SeededRun


def run(job: SeededRun) -> None:
    """Leaves a finished run and a line in `order.txt`; some names end otherwise."""
    print(f"this is {job}", flush=True)
    print("a warning", file=sys.stderr)
    if job.experiment.startswith("fails"):
        raise ValueError(f"no luck with {job}")
    if job.experiment.startswith("dies"):
        os._exit(9)
    if job.experiment.startswith("sleeps"):
        Path("sleeping").touch()
        time.sleep(60)
    folder = Path("runs/tiny") / job.experiment / f"seed-{job.seed}"
    metrics = {} if job.experiment.startswith("unjudged") else {"bon/test/acc@1": 0.5}
    (folder / "summary.json").write_text(json.dumps({"status": "FINISHED", "metrics": metrics}))
    with Path("order.txt").open("a") as file:
        file.write(f"{job.experiment}/{job.seed} {os.getpid()}\n")
