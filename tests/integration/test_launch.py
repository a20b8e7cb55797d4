"""The launch files: what they start, and when a job is queued again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


@pytest.mark.parametrize(("status", "again"), [(0, False), (1, False), (2, False), (138, True), (143, False)])
def test_a_job_is_queued_again_when_its_time_was_up_only(tmp_path: Path, status: int, again: bool) -> None:
    """With stand-ins for SLURM's commands: the first ends with a status, the second says what it was asked."""
    for name, line in (("srun", f'echo "$@"; exit {status}'), ("scontrol", 'echo "asked $@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SUBMIT_DIR": str(tmp_path), "NNODES": "2", "NTASKS_PER_NODE": "8(x2)", "JOB_ID": "7"}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | {f"SLURM_{key}": value for key, value in slurm.items()}
    command = ["bash", str(REPOSITORY / "launch" / "slurm.sh"), "ce-8resp", "paper-8b", "--seed", "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "exp ce-8resp --scale paper-8b --trainer.num_nodes 2 --trainer.devices 8 --seed 3" in done.stdout
    assert ("asked requeue 7" in done.stdout) == again


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
