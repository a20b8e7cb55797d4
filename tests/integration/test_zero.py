"""Models cut over two processes train, stop, go on and are judged as in one: laws 5 and 8 over devices."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lit_prm
from lit_prm.commands.main import main
from lit_prm.data.formats import read_groups
from lit_prm.evaluation.rows import read_rows
from lit_prm.models.reference.store import Logps
from lit_prm.models.weights import weights_of
from tests.integration.conftest import REPOSITORY, Desk, callbacks, summary

RUN = Path("runs/tiny/ce-8resp/seed-0")
LAST = RUN / "checkpoints" / "last.ckpt"
FILES = [f"--config=experiments/{name}.yaml" for name in ("base", "scale/tiny", "ce-8resp")]
ZERO = ["--trainer.strategy=lit_prm.training.zero.ZeRO", "--trainer.strategy.param_persistence_threshold=0"]  # cut all
STRATEGIES = {"ddp": ["--trainer.strategy=ddp"]} | {
    f"zero-{stage}": [*ZERO, f"--trainer.strategy.stage={stage}"] for stage in (1, 2, 3)
}
TRAIN_ONLY = ["--data.test={}"]


def common(desk: Desk) -> list[str]:
    """Options of a run of 12 updates in two epochs, each cut into two micro-batches and saved at every fourth."""
    parts = {"class_path": "tests.integration.parts.Parts", "init_args": {"folder": "${run_dir}"}}
    config = callbacks("${run_dir}", 4, [parts])
    config["trainer"] |= {"log_every_n_steps": 1, "max_epochs": 2}
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "${run_dir}"}}
    config["trainer"]["logger"] = logger
    sizes = ["--data.batch_size=32", "--trainer.accumulate_grad_batches=2", "--data.eval_tokens=256"]
    return [desk.config("common", config), *sizes]


class Ranks:
    """Runs commands in several processes, each named run in a folder of its own, where a second command goes on."""

    accelerator = "cpu"

    def __init__(self, place: Path, world: Path) -> None:
        self.place = place
        self.world = world
        self.resumed = cache(self._resumed)
        self.alone = cache(self._alone)
        self.never_stopped = cache(lambda: self.exp("never-stopped", "zero-3"))

    def desk(self, name: str) -> Desk:
        (self.place / name).mkdir(exist_ok=True)
        return Desk(self.place / name, self.world)

    def exp(
        self, name: str, strategy: str, *options: str, of: str = "ce-8resp", processes: int = 2, dies_at: int = 0
    ) -> Path:
        done = self.command(name, ["exp", of], strategy, *options, processes=processes, dies_at=dies_at)
        # rank 0 dies as well, unless it first sees that another one has
        assert done.returncode in ((-signal.SIGKILL, 1) if dies_at else (0,)), done.stderr
        assert "Warning" not in done.stderr  # nothing floods the terminal
        return self.place / name

    def command(
        self, name: str, first: list[str], strategy: str, *options: str, processes: int = 2, dies_at: int = 0
    ) -> subprocess.CompletedProcess[str]:
        desk = self.desk(name)
        where = [f"--trainer.devices={processes}", f"--trainer.accelerator={self.accelerator}", *STRATEGIES[strategy]]
        given = desk.options(*common(desk), *where, *options, record=True)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "DIES_AT": str(dies_at)}
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""} if self.accelerator == "cpu" else {}
        return subprocess.run(
            [sys.executable, "-m", "lit_prm", *first, *given],
            cwd=desk.folder, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def _resumed(self, strategy: str) -> Path:
        """The run that was killed behind update 10, in the middle of an epoch, and went on from that of update 8."""
        folder = self.exp(strategy, strategy, *TRAIN_ONLY, dies_at=10)
        assert not (folder / RUN / "summary.json").exists()
        return self.exp(strategy, strategy, *TRAIN_ONLY)

    def _alone(self) -> Path:
        """The run of one process that nobody stopped."""
        desk = self.desk("alone")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(desk.folder)
            desk.exp("ce-8resp", *common(desk), record=True)
        return desk.folder


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, micro_world: Path) -> Ranks:
    return Ranks(tmp_path_factory.mktemp("ranks"), micro_world)


def column(folder: Path, name: str) -> dict[int, float]:
    """A logged metric by update; what was logged again after a restart counts."""
    found: dict[int, float] = {}
    for file in sorted(folder.rglob("metrics.csv")):
        with file.open() as opened:
            found |= {int(r["step"]): float(r[name]) for r in csv.DictReader(opened) if r.get(name)}
    return found


def held(folder: Path) -> list[dict[str, int]]:
    return [json.loads((folder / RUN / f"parts-{rank}.json").read_text()) for rank in (0, 1)]


def largest_difference(a: Path, b: Path) -> float:
    first, second = (weights_of(str(folder / LAST)) for folder in (a, b))
    assert first.keys() == second.keys()
    return max(float((first[key] - second[key]).abs().max()) for key in first)


# --- training ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero-2", "zero-3"])
def test_two_processes_that_were_killed_find_what_one_does(strategy: str, ranks: Ranks) -> None:
    folder, alone = ranks.resumed(strategy), ranks.alone()
    for name in ("train/loss", "train/grad_norm", "train/lr"):
        assert len(column(alone, name)) == 12
        assert column(folder, name) == pytest.approx(column(alone, name), rel=1e-5, abs=1e-5)
    assert largest_difference(folder, alone) < 1e-5
    assert summary(folder / RUN)["status"] == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero-2", "zero-3"])
def test_a_process_holds_its_part_alone(strategy: str, ranks: Ranks) -> None:
    parts = held(ranks.resumed(strategy))
    for part in parts:
        half = part["all"] // 2 + part["pieces"]  # a parameter of odd size is padded
        assert part["moments"] <= (part["all"] if strategy == "ddp" else half)
        assert part["parameters"] <= (half if strategy == "zero-3" else part["all"])
        assert part["whole"] == (0 if strategy == "zero-3" else part["all"])
    assert sum(part["moments"] for part in parts) >= parts[0]["all"]


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_weights_of_one_never_killed(ranks: Ranks) -> None:
    """Law 8, bit for bit."""
    resumed, never = ranks.resumed("zero-3"), ranks.never_stopped()
    assert largest_difference(resumed, never) == 0.0
    assert column(resumed, "train/loss") == column(never, "train/loss")


@pytest.mark.slow
def test_zero_1_cuts_the_optimizer_alone_and_finds_the_same(ranks: Ranks) -> None:
    folder = ranks.exp("zero-1", "zero-1", *TRAIN_ONLY, "--trainer.limit_val_batches=0")
    assert column(folder, "train/loss") == pytest.approx(column(ranks.alone(), "train/loss"), rel=1e-5, abs=1e-5)
    for part in held(folder):
        assert part["moments"] <= part["all"] // 2 + part["pieces"]
        assert part["whole"] == part["all"]


# --- judging, in two processes and in one -----------------------------------------------------------


@pytest.mark.slow
def test_a_cut_policy_fills_the_store_before_its_first_update(ranks: Ranks) -> None:
    """Each rank has other responses, and other numbers of them, and must call the layers as often as the other."""

    def options(from_policy: bool) -> list[str]:
        places = {"model": str(ranks.world / "models" / "base"), "path": "store.sqlite", "from_policy": from_policy}
        reference = {"class_path": "lit_prm.models.reference.Stored", "init_args": places}
        return [*TRAIN_ONLY, f"--model.reference={json.dumps(reference)}", "--trainer.max_steps=1"]

    both = ranks.exp("filling", "zero-3", *options(True))
    assert [part["of_references"] for part in held(both)] == [0, 0]
    desk = ranks.desk("filling-alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk.folder)
        desk.exp("ce-8resp", *common(desk), *options(False), record=True)
    found, expected = (entries(folder / "store.sqlite") for folder in (both, desk.folder))
    assert found.keys() == expected.keys()
    assert all(np.allclose(found[a], expected[a], atol=1e-4) for a in expected)
    assert column(both, "train/loss") == pytest.approx(column(desk.folder, "train/loss"), rel=1e-5)


def entries(store: Path) -> dict[bytes, Logps]:
    with sqlite3.connect(store) as database:
        rows = database.execute("SELECT address, logps FROM logps").fetchall()
    return {address: np.frombuffer(logps, np.float32) for address, logps in rows}


@pytest.mark.slow
def test_judging_is_that_of_one_process(ranks: Ranks) -> None:
    runs = [folder / RUN for folder in (ranks.never_stopped(), ranks.alone())]
    for name in ("validation", "test"):
        both, one = ([row["reward"] for row in read_rows(run / "scores" / f"{name}.jsonl.gz")] for run in runs)
        assert both == pytest.approx(one, abs=1e-4)
    assert summary(runs[0])["metrics"].keys() == summary(runs[1])["metrics"].keys()


def rewards(source: Path, world: Path) -> list[float]:
    groups = read_groups(str(world / "candidates" / "test.jsonl")).groups
    return [r.reward or 0.0 for of_group in lit_prm.load(str(source)).score(groups) for r in of_group]


@pytest.mark.slow
def test_scores_and_exports_come_straight_from_the_folder(ranks: Ranks, tmp_path: Path) -> None:
    expected = rewards(ranks.alone() / RUN, ranks.world)
    for strategy in ("zero-2", "zero-3"):
        run = ranks.resumed(strategy) / RUN
        assert rewards(run, ranks.world) == pytest.approx(expected, abs=1e-4)
        main(["export", str(run), str(tmp_path / strategy)])
        assert rewards(tmp_path / strategy, ranks.world) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_frozen_weights_are_in_no_checkpoint_and_in_every_score(ranks: Ranks) -> None:
    """A value head needs no head of words, which is frozen where it is not tied."""
    untied = ranks.place / "untied"
    base = AutoModelForCausalLM.from_pretrained(ranks.world / "models" / "base", tie_word_embeddings=False)
    base.save_pretrained(untied)
    AutoTokenizer.from_pretrained(ranks.world / "models" / "base").save_pretrained(untied)
    options = [*TRAIN_ONLY, f"--base_model={untied}", "--run_dir=run", "--trainer.limit_val_batches=0"]
    both = ranks.exp("frozen", "zero-3", *options, of="orm-8resp") / "run"
    desk = ranks.desk("frozen-alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk.folder)
        desk.exp("orm-8resp", *common(desk), *options, record=True)
    words = "reward_model.policy.lm_head.weight"
    assert words not in weights_of(str(both / "checkpoints" / "last.ckpt"))
    expected = rewards(desk.folder / "run", ranks.world)
    assert len({round(r, 3) for r in expected}) > 3
    assert rewards(both, ranks.world) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_optimizer_goes_on_in_as_many_processes_only(ranks: Ranks) -> None:
    ranks.resumed("zero-2")
    options = [*TRAIN_ONLY, "--run_dir=other", f"--ckpt_path={LAST}", "--trainer.max_epochs=3"]
    done = ranks.command("zero-2", ["exp", "ce-8resp"], "zero-2", *options, processes=1)
    assert done.returncode == 2
    assert "was saved with ZeRO stage 2 on 2 processes, this is ZeRO stage 2 on 1 processes" in done.stderr
    assert f"--model.start {LAST}" in done.stderr


@pytest.mark.slow
def test_weights_are_judged_in_any_number_of_processes_at_any_stage(ranks: Ranks) -> None:
    folder = ranks.resumed("zero-2")
    options = ["--name=ce-8resp", "--run_dir=judged", f"--ckpt_path={LAST}"]
    done = ranks.command("zero-2", ["test", *FILES], "zero-3", *options, processes=1)
    assert done.returncode == 0, done.stderr
    found, expected = ([r["reward"] for r in read_rows(run / "scores" / "test.jsonl.gz")] for run in (
        folder / "judged", ranks.alone() / RUN
    ))  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_second_stage_starts_from_the_folder(ranks: Ranks) -> None:
    """Its first loss is that of one process that starts from the same weights; here beside a live reference."""
    start, base = ranks.resumed("zero-2") / LAST, ranks.world / "models" / "base"
    live = {"class_path": "lit_prm.models.reference.Frozen", "init_args": {"model": str(base)}}
    options = [*TRAIN_ONLY, f"--model.start={start}", f"--model.reference={json.dumps(live)}"]
    options += ["--trainer.limit_val_batches=0", "--trainer.max_steps=1"]
    both = ranks.exp("second", "zero-3", *options)
    desk = ranks.desk("second-alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk.folder)
        desk.exp("ce-8resp", *common(desk), *options, record=True)
    first = column(desk.folder, "train/loss")
    assert first[0] < 0.6
    assert column(both, "train/loss") == pytest.approx(first, rel=1e-5)
    assert [part["of_references"] for part in held(both)] == [0, 0]  # no engine cuts it


# --- the same on CUDA ---------------------------------------------------------------------------------


class OnCuda(Ranks):
    accelerator = "gpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stage", [2, 3])
def test_on_cuda_in_bfloat16(stage: int, tmp_path: Path, micro_world: Path) -> None:
    """Killed, gone on, cut, consolidated and scored, on as many of two devices as there are."""
    ranks, strategy = OnCuda(tmp_path, micro_world), f"zero-{stage}"
    options = [*TRAIN_ONLY, "--trainer.precision=bf16-mixed"]
    count = min(torch.cuda.device_count(), 2)
    ranks.exp("cuda", strategy, *options, processes=count, dies_at=10)
    run = ranks.exp("cuda", strategy, *options, processes=count) / RUN
    losses = column(run, "train/loss")
    assert len(losses) == 12
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # policy and reference round alike
    assert losses[11] < 0.5
    for rank in range(count):
        part = json.loads((run / f"parts-{rank}.json").read_text())
        assert part["moments"] <= part["all"] // count + part["pieces"]
    found = rewards(run, micro_world)
    main(["export", str(run), str(tmp_path / "prm")])
    assert rewards(tmp_path / "prm", micro_world) == pytest.approx(found, abs=1e-4)
