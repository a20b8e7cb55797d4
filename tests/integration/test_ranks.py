"""Two processes train as one: law 5 over devices."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from lit_prm.evaluation.artifacts import read_rows
from tests.integration.conftest import REPOSITORY, Desk, callbacks, metrics, summary, weights


def losses(run: Path) -> list[float]:
    with next(run.rglob("metrics.csv")).open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.parametrize("name", ["ce-8resp", "dpo-8resp", "kto-8resp"])
@pytest.mark.slow
def test_two_processes_find_what_one_does(name: str, desk: Desk) -> None:
    config = callbacks("${run_dir}", 50)
    config["trainer"]["log_every_n_steps"] = 1
    config["trainer"]["logger"] = {
        "class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "${run_dir}"},
    }  # fmt: skip
    common = [desk.config("common", config), "--data.eval_tokens=256"]  # every rank has something to judge
    alone = desk.exp(name, *common, record=True).rename(desk.folder / "alone")
    command = [
        sys.executable, "-m", "lit_prm", "exp", name, *desk.options(*common, record=True),
        "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test: accuracy of the chosen answer") == 1
    both = desk.folder / "runs" / "tiny" / name / "seed-0"
    assert len(losses(alone)) >= 10
    assert losses(both) == pytest.approx(losses(alone), rel=1e-5, abs=1e-5)
    one, two = weights(alone), weights(both)
    for key in one:
        assert_close(two[key], one[key], rtol=1e-3, atol=1e-4)
    assert isinstance(one[key], torch.Tensor)
    judged = [[row["reward"] for row in read_rows(run / "scores" / "test.jsonl.gz")] for run in (alone, both)]
    assert judged[1] == pytest.approx(judged[0], abs=1e-2)
    assert summary(both)["metrics"].keys() == summary(alone)["metrics"].keys(), metrics(both)
