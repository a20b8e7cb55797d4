"""A rank that is stopped, killed or fails is named by the first one that is left, and all end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from socket import socket
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from lit_prm.training.roll_call import RollCall
from tests.forks import Fork

SILENCE = 3.0  # seconds


def trainer(*children: Popen[bytes], rank: int = 0) -> Any:
    launcher = SimpleNamespace(procs=children)
    return SimpleNamespace(world_size=2, global_rank=rank, strategy=SimpleNamespace(launcher=launcher))


def work(rank: int, port: int, act: Callable[[], object] | None) -> None:
    """Rank by rank: start, act, and do what needs both. An error that no lost rank explains ends with status 7."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo", timeout=timedelta(seconds=100))
    call = RollCall(trainer(rank=rank), SILENCE)
    call.start()
    dist.barrier()
    try:
        if act:
            act()
        dist.all_reduce(torch.ones(1))
    except Exception as error:
        call.explain(error)
        raise SystemExit(7) from error


def pair(acting: int, act: Callable[[], object], folder: Path) -> tuple[Fork, Fork]:
    """The rank that acts, and the other one."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [Fork(partial(work, r, port, act if r == acting else None), folder / str(r)) for r in (0, 1)]
    return ranks[acting], ranks[1 - acting]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(100)


def fail() -> None:
    raise ValueError("its own mistake")


def hang() -> None:
    time.sleep(2 * SILENCE)  # alive, as a rank that has more to do


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_or_killed_rank_is_named(rank: int, number: signal.Signals, tmp_path: Path) -> None:
    """Rank 0 holds the store that the signs are in."""
    lost, left = pair(rank, partial(send, number), tmp_path)
    done = left.ended()
    os.kill(lost.pid, signal.SIGKILL)
    os.waitpid(lost.pid, 0)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: rank {rank} gave no sign of life for ")
    assert line.endswith("The same command goes on.")
    assert "Traceback" not in done.stderr


def test_a_rank_that_fails_by_itself_says_why_and_the_other_one_names_it(tmp_path: Path) -> None:
    failing, left = (rank.ended() for rank in pair(1, fail, tmp_path))
    assert (failing.returncode, left.returncode) == (7, 1), left.stderr
    assert "error: rank 1 " in left.stderr
    assert "error: rank" not in failing.stderr


def test_a_slow_rank_is_waited_for(tmp_path: Path) -> None:
    assert [rank.ended().returncode for rank in pair(1, hang, tmp_path)] == [0, 0]


@pytest.mark.parametrize("met", [True, False])
@pytest.mark.parametrize(
    ("command", "told"),
    [("kill -KILL $$", "rank 1 was ended by SIGKILL (the kernel"), ("exit 3", "rank 1 ended with status 3, and")],
)
def test_the_process_that_started_the_others_says_how_one_ended(
    command: str, told: str, met: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child = Popen(["sh", "-c", command])
    child.wait()
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(dist, "is_initialized", lambda: met)
    call = RollCall(trainer(child), SILENCE)
    call._end_if_lost(0, [0, 4])
    assert not ended  # it may still have said that it was done
    call._end_if_lost(0, [0, 5])
    assert ended == ([] if met and "exit" in command else [1])  # one that ends by itself may be the first to save
    call._end_if_lost(0, [0, 150])
    assert ended[-1:] == [1]
    assert told in capsys.readouterr().err


def test_ranks_that_have_not_met_do_not_wait_for_one_that_ended(tmp_path: Path) -> None:
    def waits() -> None:
        RollCall(trainer(Popen(["sh", "-c", "exit 2"])), SILENCE).start()
        time.sleep(100)

    done = Fork(waits, tmp_path / "waits").ended()
    assert done.returncode == 1
    assert "error: rank 1 ended with status 2, and" in done.stderr


def test_silence_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("0", "-3", "nan", "inf", "soon", ""):
        monkeypatch.setenv("LIT_PRM_SILENCE", given)
        with pytest.raises(ValueError, match=f"LIT_PRM_SILENCE={given} is not a number of seconds above 0"):
            RollCall(trainer())


class FailingStore:
    """A store of a process group whose first ``failures`` writes fail."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.held: dict[str, bytes] = {}

    def clone(self) -> FailingStore:
        return self

    def set(self, name: str, value: str) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("Broken pipe")
        self.held[name] = value.encode()

    def check(self, names: list[str]) -> bool:
        return all(name in self.held for name in names)

    def get(self, name: str) -> bytes:
        return self.held[name]


@pytest.mark.parametrize("failures", [1, 100])
def test_a_store_that_fails_once_ends_no_signs_of_life(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FailingStore(failures)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    call = RollCall(trainer(rank=1), silence=1.5)  # a sign each hundredth of a second
    call._signs = ["", ""]
    call._messenger.start()
    while call._messenger.is_alive() and not call._signs[1]:
        time.sleep(0.01)
    assert bool(call._signs[1]) == (failures == 1)
    call._left.set()
    call._messenger.join()
    assert store.held == ({"roll-call/1": b"done"} if failures == 1 else {})


def test_processes_of_multiprocessing_are_left_to_their_launcher() -> None:
    forked = object.__new__(_MultiProcessingLauncher)
    call = RollCall(SimpleNamespace(world_size=2, global_rank=0, strategy=SimpleNamespace(launcher=forked)))  # type: ignore[arg-type]
    call.start()
    assert not call._judge.is_alive()
