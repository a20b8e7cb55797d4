"""The front door is light, and tells a user's mistakes from the project's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_prm.commands import main as cli
from lit_prm.commands import precision

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("mlflow", "deepspeed", "lightning", "torch", "transformers", "datasets", "matplotlib")


def test_importing_the_library_imports_nothing_heavy() -> None:
    """Law 10."""
    code = f"import sys, lit_prm, lit_prm.commands.main; print([m for m in {HEAVY} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


JOBS = [[job, "--help"] for job in cli.JOBS]


@pytest.mark.parametrize("args", [["--help"], [], *JOBS])
def test_help_answers_in_under_three_seconds(args: list[str]) -> None:
    """Law 10; processor time, since a busy machine is not the program's fault."""
    before = os.times()
    shown = subprocess.run(
        [sys.executable, "-m", "lit_prm", *args], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    after = os.times()
    assert "usage: python -m lit_prm" in shown.stdout
    assert (after.children_user + after.children_system) - (before.children_user + before.children_system) < 3


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["export", "run", "folder", "--checkpont", "x"], "--checkpont x; did you mean --checkpoint?"),
        (["score", "a", "b", "--max_lenght=3"], "--max-lenght=3; did you mean --max-length?"),
        (["view", "a", "--qqqq"], "arguments: --qqqq\n"),
    ],
)
def test_an_unknown_option_is_told_with_the_one_it_resembles(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(args)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["bon", "other", "FILE", "--json", "SAME"], "--json SAME"),
        (["bon", "FILE", "--figure=SAME"], "--figure SAME"),
        (["view", "FILE", "--out", "SAME"], "--out SAME"),
        (["score", "model", "FILE", "--out", "SAME"], "--out SAME"),
        (["sample", "model", "FILE", "--out", "SAME"], "--out SAME"),
    ],
)
def test_what_is_read_is_never_written(
    args: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whatever name: here a path through another folder."""
    file, same = tmp_path / "rows.jsonl", tmp_path / "here" / ".." / "rows.jsonl"
    file.write_text("{}\n")
    (tmp_path / "here").mkdir()
    with pytest.raises(SystemExit, match="2"):
        cli.main([word.replace("FILE", str(file)).replace("SAME", str(same)) for word in args])
    assert f"{told.replace('SAME', str(same))} is read by this command" in capsys.readouterr().err
    assert file.read_text() == "{}\n"


def test_a_missing_dependency_is_told_with_the_python_that_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["list"])
    assert "use .venv/bin/python" in capsys.readouterr().err


def test_an_error_from_inside_a_library_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        torch.zeros(2) @ torch.zeros(3)

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(RuntimeError, match="size"):
        cli.main(["list"])


@pytest.mark.parametrize(
    ("accelerator", "cuda", "cpu", "expected"),
    [
        ("auto", True, False, "bf16-mixed"),
        ("auto", False, True, "bf16-mixed"),
        ("auto", False, False, "32-true"),
        ("cpu", True, False, "32-true"),
        ("cpu", False, True, "bf16-mixed"),
        ("gpu", True, False, "bf16-mixed"),
        ("mps", False, True, "32-true"),
    ],
)
def test_precision_is_bf16_only_where_the_device_in_use_is_fast_at_it(
    accelerator: str, cuda: bool, cpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: not including_emulation)
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: cpu)
    assert precision.fast_precision(accelerator) == expected


def test_this_cpu_is_known() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or "flags" not in flags.read_text():
        pytest.skip("the kernel names no flags")
    known = set(flags.read_text().split("flags", 1)[1].split("\n", 1)[0].split())
    assert precision.cpu_has_bf16() == bool(known & {"avx512_bf16", "amx_bf16"})


def test_ctrl_c_ends_a_command_with_a_word_and_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lit_prm.commands.experiment.show_available", lambda _: interrupted())
    with pytest.raises(SystemExit) as ended:
        cli.main(["list"])
    assert ended.value.code == 130
    assert "stopped; finished work is kept" in capsys.readouterr().err
