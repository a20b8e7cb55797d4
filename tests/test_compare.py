"""What `compare` shows of recorded runs, and what it says when there is nothing to show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from lit_prm.compare.command import Recorded, draw, main, read_runs, recorded_names, table

CURVE = {"bon/test/acc@1": 0.40, "bon/test/acc@1/low": 0.38, "bon/test/acc@1/high": 0.44}


def write(runs: Path, name: str, seed: int, metrics: dict[str, float], status: str = "FINISHED") -> None:
    folder = runs / "tiny" / name / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"status": status, "metrics": metrics}))


def lines(made: object) -> list[list[str]]:
    """The table's rows as lists of cells."""
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(made)
        text = console.export_text()
    return [[cell.strip() for cell in line.strip("│┃").split("│")] for line in text.splitlines() if "│" in line]


def rows(*runs: Recorded) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for cells in lines(table(runs, "tiny"))}


# --- cells ----------------------------------------------------------------------------------------


def test_one_seed_shows_its_interval() -> None:
    assert rows(Recorded("a", (CURVE,)))["test  best-of-N  N=1"] == ["40.0 [38, 44]"]


def test_several_seeds_show_their_mean_and_half_their_range() -> None:
    seeds = tuple({**CURVE, "bon/test/acc@1": value} for value in (0.40, 0.41, 0.45))
    assert rows(Recorded("a", seeds))["test  best-of-N  N=1"] == ["42.0 ± 2.5"]


def test_rows_are_the_declared_aggregate_at_powers_of_four_and_the_largest() -> None:
    metrics = {f"{m}/test/acc@{n}": 0.5 for m in ("bon", "vote", "majority", "any") for n in (1, 2, 4, 8, 10)}
    metrics |= {"bon/test/last/acc@4": 0.1, "bon/test/level-3/acc@4": 0.2, "train/loss": 0.6931, "train/auc": 0.75}
    metrics |= {"rewards/margins": 1.0, "bon/test/acc@4/low": 0.4, "bon/test/acc@4/high": 0.6}
    labels = [
        f"test  {m}  N={n}"
        for m in ("best-of-N", "vote", "majority", "any right")
        for n in ((1, 4, 10) if m == "best-of-N" else (4, 10))
    ]
    shown = rows(Recorded("a", (metrics,)))
    assert list(shown) == [*labels, "train/loss", "train/auc"]
    assert shown["train/loss"] == ["0.6931"]
    assert shown["test  best-of-N  N=4"] == ["50.0 [40, 60]"]
    assert shown["test  best-of-N  N=10"] == ["50.0"]


def test_runs_are_columns_and_a_missing_metric_is_an_empty_cell() -> None:
    shown = rows(Recorded("a", (CURVE,)), Recorded("b", ({"train/loss": 0.5},)))
    assert shown["test  best-of-N  N=1"] == ["40.0 [38, 44]", ""]
    assert shown["train/loss"] == ["", "0.5000"]


def test_unfinished_seeds_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a", 0, CURVE)
    write(tmp_path, "a", 1, CURVE, status="KILLED")
    main(["a", "--runs", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "2 seeds" in printed
    assert "1 unfinished" in printed


def test_bands_are_the_interval_of_one_seed_and_the_range_of_several() -> None:
    assert Recorded("a", (CURVE,)).band("bon/test/acc@1") == pytest.approx((40, 38, 44))
    two = Recorded("a", (CURVE, {**CURVE, "bon/test/acc@1": 0.50}))
    assert two.band("bon/test/acc@1") == pytest.approx((45, 40, 50))
    assert Recorded("a", ({"x": 0.5},)).band("x") == pytest.approx((50, 50, 50))


# --- runs -----------------------------------------------------------------------------------------


def test_names_choose_and_order_and_none_means_all(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path, name, 0, {**CURVE, "train/loss": ord(name)})
    assert [run.name for run in read_runs(tmp_path, "tiny", ["c", "a"])] == ["c", "a"]
    assert [run.name for run in read_runs(tmp_path, "tiny")] == ["a", "b", "c"]
    assert read_runs(tmp_path, "tiny", ["b"])[0].seeds[0]["train/loss"] == ord("b")
    assert recorded_names(tmp_path) == {"tiny": ["a", "b", "c"]}


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    write(tmp_path, "ce-1resp", 0, CURVE)
    with pytest.raises(SystemExit, match=r"(?s)no record of typo at scale 'tiny'.*tiny: ce-1resp.*make exp NAME=typo"):
        main(["ce-1resp", "typo", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"(?s)nothing recorded at scale 'smol'.*tiny: ce-1resp"):
        main(["--scale", "smol", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="nothing yet"):
        main(["--runs", str(tmp_path / "none")])


def test_a_cut_off_summary_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a", 0, CURVE)
    (tmp_path / "tiny" / "a" / "seed-0" / "summary.json").write_text('{"status":')
    with pytest.raises(SystemExit, match=r"seed-0/summary.json:1: not JSON"):
        main(["a", "--runs", str(tmp_path)])


# --- figure ---------------------------------------------------------------------------------------


def test_main_prints_the_table_and_writes_the_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = {f"{m}/{s}/acc@{n}": 0.3 + n / 100 for m in ("bon", "majority", "any") for s in ("x", "y") for n in (1, 4)}
    write(tmp_path, "a", 0, many)
    write(tmp_path, "b", 0, CURVE)  # another candidate set
    main(["a", "b", "--runs", str(tmp_path)])
    figure = tmp_path / "tiny" / "compare-a-b.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert f"figure: {figure}" in capsys.readouterr().out


def test_no_curve_no_figure(tmp_path: Path) -> None:
    assert not draw([Recorded("a", ({"train/loss": 0.5},))], tmp_path / "none.png")
    assert list(tmp_path.iterdir()) == []


def test_comparing_needs_no_torch() -> None:
    slow = "{'torch', 'lightning', 'mlflow', 'matplotlib'}"
    code = f"import sys, lit_prm.compare.command; sys.exit(bool({slow} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
