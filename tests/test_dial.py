"""The dial: the same experiments at five shares of fluent errors, in one table and one figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lit_prm.commands.dial import CHOSEN, FOUND, NAMES, SHARES, main, place
from lit_prm.commands.experiment import options
from lit_prm.commands.lightning import resolved_config
from lit_prm.commands.paper.schedule import SeededRun
from lit_prm.training.worlds.tinymath import TinyMath
from tests.paper_runs import write_run

JOB = SeededRun("ce-8resp", 0)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds at every share; CE's accuracy is 30 % plus 40 points times the share, the reference's always 50 %."""
    monkeypatch.chdir(tmp_path)
    for share in SHARES:
        for name in NAMES:
            level = 0.3 + 0.4 * float(share) if name == "ce-8resp" else 0.35
            curves = {"bon/reference-min": 0.5, "first_error/found": level, "first_error/reference": 0.6}
            for seed in (0, 1):
                write_run(
                    tmp_path / "runs" / (place(share).group or "tiny"), name, seed, level=level, noise=0.0,
                    curves={**curves, "first_error/position": 0.2},
                )  # fmt: skip
    return tmp_path / "runs"


def rows(page: str, heading: str) -> dict[str, list[float]]:
    """Means of a table by the label of the row."""
    table = page[page.index(heading) :].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {label: [float(re.split(r" |\[", cell)[0]) for cell in row] for label, *row in cells}


def test_every_share_is_a_column_and_differences_are_paired(runs: Path, tmp_path: Path) -> None:
    main(["--only", "tables", "--seeds", "2"])
    page = (tmp_path / "docs" / "dial.md").read_text()
    chosen = rows(page, "accuracy of the best of 16")
    assert chosen.keys() == CHOSEN.keys()
    mean_difficulty = chosen["Majority vote"][0] - 50  # the problems' own, shared by all runs
    assert chosen["Implicit PRM (CE)"] == pytest.approx([x + mean_difficulty for x in (30, 40, 50, 60, 70)], abs=0.11)
    assert rows(page, "first wrong step found").keys() == FOUND.keys()
    assert rows(page, "first wrong step found")["Implicit PRM (CE)"] == [30, 40, 50, 60, 70]
    difference = rows(page, "differences at N = 16")["Implicit PRM (CE) minus Reference log-likelihood, worst step"]
    assert difference == [-20, -10, 0, 10, 20]
    assert "[-20.0, -20.0]" in page  # paired on the same problems, whose difficulty cancels
    assert (tmp_path / "docs/figures/dial.png").stat().st_size > 10_000


def test_a_missing_run_is_named_with_its_share(runs: Path) -> None:
    (runs / "tiny-fluent-0.25" / "dpo-8resp" / "seed-1" / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"At share 0\.25 runs are missing: dpo-8resp \(only seeds 0\)\. Make them"):
        main(["--only", "tables", "--seeds", "2"])


def test_a_share_is_a_world_and_a_folder_of_its_own_and_the_last_one_is_the_default() -> None:
    config = yaml.safe_load(resolved_config(options(*JOB[:1], "tiny", 0, place("0.25").options(JOB))))
    assert config["run_dir"] == str(place("0.25").folder(JOB)) == "runs/tiny-fluent-0.25/ce-8resp/seed-0"
    assert config["data"]["root"] == ".cache/tinymath-fluent-0.25/seed-0"
    assert config["data"]["world"]["init_args"]["fluent_errors"] == 0.25
    assert place("1").options(JOB) == []
    assert TinyMath().training["fluent_errors"] == 1
