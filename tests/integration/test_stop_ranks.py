"""Two processes stop together, whichever of them gets a signal, meets NaN, dies or is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.integration.conftest import REPOSITORY, Desk, callbacks, same_weights, summary

pytestmark = pytest.mark.slow

# What rank 1 alone does at its fifth update.
ACTS = {
    "nothing": "return loss",
    "signal": "os.kill(os.getpid(), signal.SIGUSR1); return loss",
    "nan": "return loss * float('nan')",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "stop": "os.kill(os.getpid(), signal.SIGSTOP)",
}
DROPOUT = ["--model.reward_model=lit_prm.models.adapters.LoRAReward", "--model.reward_model.init_args.dropout=0.3"]
SCRIPT = """
import os, signal, sys
from lit_prm.commands.main import main
from lit_prm.training.module import LitPRM
step = LitPRM.training_step
def acting(self, batch, batch_idx):
    loss = step(self, batch, batch_idx)
    if self.trainer.global_rank == 1 and self.trainer.global_step == 4:
        {act}
    return loss
LitPRM.training_step = acting
main(sys.argv[1:])
"""


def train(desk: Desk, act: str) -> subprocess.CompletedProcess[str]:
    """Twelve updates in two epochs on two processes, each with its dropout, which save at the end or when stopped."""
    script = desk.folder / f"act_{act}.py"
    script.write_text(SCRIPT.format(act=ACTS[act]))
    config = callbacks("${run_dir}", 50)
    config["trainer"] |= {"max_epochs": 2, "devices": 2, "strategy": "ddp", "accelerator": "cpu"}
    sizes = ["--data.batch_size=32", "--data.eval_tokens=256"]  # every rank has something to judge
    options = desk.options(desk.config("ranks", config), *sizes, *DROPOUT)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"LIT_PRM_SILENCE": "15"} if act == "stop" else {}
    command = [sys.executable, str(script), "exp", "ce-8resp", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def run_of(desk: Desk) -> Path:
    return desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"


def test_one_rank_is_signalled_and_both_stop_at_the_same_update_and_go_on(desk: Desk) -> None:
    done = train(desk, "nothing")
    assert done.returncode == 0, done.stderr
    unbroken = run_of(desk).rename(desk.folder / "unbroken")
    stopped = train(desk, "signal")
    assert stopped.returncode == 138, stopped.stderr
    assert "stopped; the same command resumes the run" in stopped.stderr
    assert summary(run_of(desk))["status"] == "KILLED"
    assert torch.load(run_of(desk) / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] == 5
    done = train(desk, "nothing")
    assert done.returncode == 0, done.stderr
    assert f"continuing {run_of(desk).relative_to(desk.folder)}" in done.stdout
    assert same_weights(run_of(desk), unbroken)


def test_one_rank_meets_nan_and_both_stop_before_the_update(desk: Desk) -> None:
    failed = train(desk, "nan")
    assert failed.returncode == 2, failed.stderr
    assert failed.stderr.count("error: the training loss is") == 2, failed.stderr
    assert summary(run_of(desk))["status"] == "FAILED"
    kept = [torch.load(run_of(desk) / f"bad-batch{rank}.pt", weights_only=True) for rank in ("", "-rank1")]
    assert [batch["update"] for batch in kept] == [5, 5]
    rows = [set(batch["batches"][0]["row"].tolist()) for batch in kept]
    assert rows[0].isdisjoint(rows[1])


@pytest.mark.parametrize(("act", "told"), [("kill", "was ended by SIGKILL"), ("stop", "gave no sign of life for 15 s")])
def test_one_rank_dies_or_is_stopped_and_the_other_names_it_and_ends_both(act: str, told: str, desk: Desk) -> None:
    lost = train(desk, act)  # returns when no process holds its output any more
    assert lost.returncode == 1, lost.stderr
    assert [line for line in lost.stderr.splitlines() if "error" in line.lower()] == [
        line for line in lost.stderr.splitlines() if line.startswith(f"error: rank 1 {told}")
    ]
    assert lost.stderr.count("The same command goes on.") == 1
    assert "Traceback" not in lost.stderr
    done = train(desk, "nothing")
    assert done.returncode == 0, done.stderr
    assert summary(run_of(desk))["status"] == "FINISHED"
