"""The launch files: what they start, and when a job is queued again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.testing import assert_close

from tests.integration.conftest import REPOSITORY, Desk, callbacks, summary, weights

FILES = sorted((REPOSITORY / "launch").glob("*.sh"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_bash_reads_it(file: Path) -> None:
    subprocess.run(["bash", "-n", str(file)], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, str(file)], check=True)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_without_names_it_says_how(file: Path) -> None:
    environment = {**os.environ, "SLURM_SUBMIT_DIR": str(REPOSITORY)}
    done = subprocess.run(["bash", str(file)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "NAME SCALE" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"NODES": "2"}, "NODES=2 needs HEAD"),
        ({"NODES": "x"}, "NODES=x: give a whole number"),
        ({"DEVICES": "0"}, "DEVICES=0: give a whole number"),
        ({"NODES": "2", "HEAD": "n1:29500"}, "give HEAD=n1 PORT=29500"),
    ],
)
def test_settings_of_torchrun_that_cannot_be_meant_are_refused(settings: dict[str, str], told: str) -> None:
    command = ["bash", str(REPOSITORY / "launch" / "torchrun.sh"), "ce-8resp", "tiny"]
    environment = {**os.environ, "PYTHON": "echo", **settings}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    ("status", "left", "again"),
    [
        (0, "", False),
        (1, "", False),
        (2, "", False),
        (138, "", True),
        (143, "", False),
        (139, "138", True),  # a process crashed while Python ended
        (139, "143", False),
    ],
)
def test_a_job_is_queued_again_when_its_time_was_up_only(tmp_path: Path, status: int, left: str, again: bool) -> None:
    """With stand-ins for SLURM's commands: the first ends with a status, the second says what it was asked."""
    leaves = f'echo {left} > "$LIT_PRM_STOPPED"; ' if left else ""
    for name, line in (("srun", f'echo "$@"; {leaves}exit {status}'), ("scontrol", 'echo "asked $@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SUBMIT_DIR": str(tmp_path), "NNODES": "2", "NTASKS_PER_NODE": "8(x2)", "JOB_ID": "7"}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | {f"SLURM_{key}": value for key, value in slurm.items()}
    command = ["bash", str(REPOSITORY / "launch" / "slurm.sh"), "ce-8resp", "paper-70b", "--seed", "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == int(left or status)
    assert "exp ce-8resp --scale paper-70b --trainer.num_nodes 2 --trainer.devices 8 --seed 3" in done.stdout
    assert ("asked requeue 7" in done.stdout) == again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scontrol", "srun"]


# In the place of lit_prm: each process needs a while to stop, and says that it could.
STOPS = """
import os, pathlib, signal, sys, time
def stop(number, _):
    time.sleep(1)
    pathlib.Path(f"stopped-{os.environ['RANK']}").write_text(str(number))
    sys.exit(128 + number)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, stop)
pathlib.Path(f"ready-{os.environ['RANK']}").touch()
time.sleep(100)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_torchrun_hands_signals_on_and_waits(number: signal.Signals, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "launch", tmp_path / "launch")
    (tmp_path / "lit_prm").mkdir()
    (tmp_path / "lit_prm" / "__main__.py").write_text(STOPS)
    settings = {"DEVICES": "2", "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path), "PORT": "29518"}
    command = ["bash", "launch/torchrun.sh", "ce-8resp", "tiny"]
    started = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while len(list(tmp_path.glob("ready-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    started.send_signal(number)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 1, told
    assert [(tmp_path / f"stopped-{rank}").read_text() for rank in (0, 1)] == [str(int(number))] * 2


@pytest.mark.slow
def test_torchrun_trains_with_two_processes_what_one_does(desk: Desk) -> None:
    common = [desk.config("common", callbacks("${run_dir}", 50)), "--data.eval_tokens=256", "--trainer.strategy=ddp"]
    alone = desk.exp("ce-8resp", *common, "--trainer.strategy=auto").rename(desk.folder / "alone")
    shutil.copytree(REPOSITORY / "launch", desk.folder / "launch")  # beside experiments/, as in the repository
    command = ["bash", "launch/torchrun.sh", "ce-8resp", "tiny", *desk.options(*common)]
    settings = {"DEVICES": "2", "PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY), "PORT": "29517"}
    environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    both = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"
    assert summary(both)["status"] == "FINISHED"
    one, two = weights(alone), weights(both)
    for key in one:
        assert_close(two[key], one[key], rtol=1e-3, atol=1e-4)
