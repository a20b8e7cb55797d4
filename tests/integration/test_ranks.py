"""Two processes train as one: law 5 over devices."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from socket import socket
from subprocess import CompletedProcess

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.testing import assert_close

from lit_prm.commands.main import main
from lit_prm.evaluation.rows import read_rows
from tests.forks import Fork
from tests.integration.conftest import REPOSITORY, Desk, callbacks, metrics, summary, weights
from tests.rounding import network_bound

# of a mean of log-sigmoids of rewards, each beta 2 times sums of log-probs of up to 50
ROUNDING = network_bound(64, 1.0) * 2


Start = Callable[..., CompletedProcess[str]]


def losses(run: Path) -> list[float]:
    with next(run.rglob("metrics.csv")).open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


WORLD = {"WORLD_SIZE": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""}


def started_by_lightning(desk: Desk, *command: str) -> CompletedProcess[str]:
    """Rank 0, which starts rank 1."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    whole = [sys.executable, "-m", "lit_prm", *command]
    return subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=600)


def forked(desk: Desk, *command: str) -> CompletedProcess[str]:
    """Both ranks, in the environment that a launcher gives them, without the time that their imports take."""

    def work(rank: int) -> None:
        rank_zero_only.rank = rank  # type: ignore[attr-defined]  # as Lightning finds it at its import
        main(command)

    with socket() as free:
        free.bind(("127.0.0.1", 0))
        world = WORLD | {"MASTER_PORT": str(free.getsockname()[1])}
    ranks = [Fork(partial(work, rank), desk.folder / f"rank-{rank}", LOCAL_RANK=str(rank), **world) for rank in (0, 1)]
    one, two = (rank.ended() for rank in ranks)
    return CompletedProcess(command, one.returncode or two.returncode, one.stdout + two.stdout, one.stderr + two.stderr)


# a few updates and one set to judge: what differs between ranks differs from the first batch on. SGD without clipping
# shows a gradient of another size, which neither Adam nor a clipped one does.
SGD = ("--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=1e-3", "--trainer.gradient_clip_val=null")
FEW = (*SGD, "--trainer.max_steps=3", "--trainer.limit_val_batches=0", "--data.test={test: candidates/test.jsonl}")
WHOLE = ("ce-8resp", "dpo-8resp", "kto-8resp")


@pytest.mark.parametrize(
    ("name", "few", "start"),
    [
        ("dpo-8resp", FEW, forked),
        *(pytest.param(name, (), started_by_lightning, marks=pytest.mark.slow) for name in WHOLE),
    ],
)
def test_two_processes_find_what_one_does(name: str, few: tuple[str, ...], start: Start, desk: Desk) -> None:
    config = callbacks("${run_dir}", 50)
    config["trainer"]["log_every_n_steps"] = 1
    config["trainer"]["logger"] = {
        "class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "${run_dir}"},
    }  # fmt: skip
    common = [desk.config("common", config), "--data.eval_tokens=256", *few]  # every rank has something to judge
    alone = desk.exp(name, *common, record=True).rename(desk.folder / "alone")
    two_ranks = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    done = start(desk, "exp", name, *desk.options(*common, record=True), *two_ranks)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test: accuracy of the chosen answer") == 1
    both = desk.folder / "runs" / "tiny" / name / "seed-0"
    one, two = losses(alone), losses(both)
    assert len(one) == 3 if few else len(one) >= 10
    assert min(abs(a - b) for a, b in pairwise(one)) > 10 * ROUNDING  # updates are seen
    assert two == pytest.approx(one, abs=ROUNDING)
    first, second = weights(alone), weights(both)
    for key in first:
        assert_close(second[key], first[key], rtol=1e-3, atol=1e-4)
    assert isinstance(first[key], torch.Tensor)
    judged = [[row["reward"] for row in read_rows(run / "scores" / "test.jsonl.gz")] for run in (alone, both)]
    assert judged[1] == pytest.approx(judged[0], abs=1e-2)
    assert summary(both)["metrics"].keys() == summary(alone)["metrics"].keys(), metrics(both)
