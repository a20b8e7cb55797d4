"""The written document and its figures, from runs with chosen accuracies."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lit_prm.commands.paper import figures
from lit_prm.commands.paper.document import document
from lit_prm.commands.paper.figures import FIGURES, draw_all
from lit_prm.commands.paper.methods import LABELS, PARTS
from lit_prm.commands.paper.results import PaperResults
from lit_prm.commands.paper.runner import main
from lit_prm.commands.paper.tables import standing, steps_table, table_1, table_2, table_3, times, vote_table
from lit_prm.evaluation.estimate import Estimate, gain, number, plus_minus, power
from lit_prm.evaluation.tables import Table, tone
from lit_prm.reports.paper_numbers import paper
from tests.paper_runs import write_run

POLICY = {"policy/test/greedy": 0.3, "policy/test/greedy/low": 0.25, "policy/test/greedy/high": 0.35}
STEPS = {"first_error/found": 0.6, "first_error/chance": 0.2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All experiments but one, one seed; the implicit DPO is better than the others by five points."""
    runs = tmp_path_factory.mktemp("project") / "runs" / "tiny"
    for name in LABELS:
        if name != "dpo-8resp-mixedgen":
            metrics = {**POLICY, "cost/total_flops": 3e12, "cost/total_tokens": 1e6, "steps/test/auc": 0.75}
            write_run(runs, name, level=0.55 if name == "dpo-8resp" else 0.5, metrics=metrics, curves=STEPS)
    return runs


@pytest.fixture(scope="module")
def results(folder: Path) -> PaperResults:
    return PaperResults(folder, 1)


REPOSITORY = Path(__file__).parents[1]


def rows(table: Table) -> dict[str, list[str]]:
    """Label -> cells; of labels that occur twice the last."""
    assert {len(row) for row in table.rows} == {len(table.columns)}, "ragged"
    return {row[0]: list(row[1:]) for row in table.rows}


def test_table_1_has_our_cells_the_papers_below_and_how_it_stands(results: PaperResults) -> None:
    table = table_1(results, paper())
    shown = rows(table)
    ours = shown["Implicit PRM (DPO)"]
    assert len(ours) == 12
    assert all("±" in cell for cell in ours[:10])
    assert ours[10] == "+5.0 above"
    assert ours[11].endswith("above")
    assert shown["Implicit PRM (CE)"][11].endswith("noise")
    assert shown["Math-Shepherd, hard labels"][11] == "-"
    (below,) = (after for row, after in pairwise(table.rows) if row[0] == "Implicit PRM (DPO)")
    assert below[:5] == ("paper", "18.6", "24.4", "28.8", "54.0")
    assert {tone(cell) for cell in below[:11]} == {"theirs"}
    assert shown["paper: EurusRM-7B (ORM)"][9] == "46.9"


def test_a_missing_run_is_a_dash_and_a_line_and_never_a_number(results: PaperResults) -> None:
    shown = rows(table_2(results, paper()))
    assert set(shown[LABELS["dpo-8resp-mixedgen"]]) == {"-"}
    text = document(results, paper(), "tiny", [])
    assert "- **missing: dpo-8resp-mixedgen**\n" in text
    assert text.count("missing:") == 1
    assert (
        "| Taking half of the responses from a second generator brings nothing | -0.4 (49.9 against 50.4) | - | **not"
        in text
    )


def test_votes_policies_and_steps_stand_beside_the_papers(results: PaperResults) -> None:
    votes = rows(vote_table(results, paper()))
    assert votes["Implicit PRM (KTO)"][1] == "45.7"
    assert votes["Implicit PRM (KTO)"][3] == "50.4"
    assert votes["Implicit PRM (KTO)"][4].startswith("+0.0 [")
    assert rows(table_3(results, paper()))["Implicit PRM (DPO)"] == ["30.0 ±5.0", "-", "25.8"]
    steps = rows(steps_table(results, paper()))
    assert steps["Implicit PRM (DPO)"] == ["60.0 ±0.0", "0.750", "-"]
    assert steps["A random step"][0] == "20.0 ±0.0"


def test_f1_of_steps_is_shown_once_it_is_recorded(folder: Path, tmp_path: Path) -> None:
    write_run(tmp_path, "dpo-8resp", metrics={"steps/test/f1": 0.42})
    assert rows(steps_table(PaperResults(tmp_path, 1), paper()))["Implicit PRM (DPO)"][2] == "42.0"


def test_without_any_run_the_document_is_all_dashes(tmp_path: Path) -> None:
    results = PaperResults(tmp_path, 3)
    assert draw_all(results, tmp_path / "figures", "tiny") == []
    text = document(results, paper(), "tiny", [])
    assert text.count("- **missing:") == len(LABELS)
    assert "48 not measured" in text
    assert "±" not in text.replace("±3 points", "")


def test_the_command_writes_figures_and_twice_the_same_document(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    Path("experiments").symlink_to(REPOSITORY / "experiments")
    drawn: list[str] = []

    def drawn_once(*where: Any) -> list[str]:
        drawn.extend([] if drawn else draw_all(*where))
        return drawn

    monkeypatch.setattr(figures, "draw_all", drawn_once)
    texts = []
    for _ in range(2):
        main(["--only", "tables", "--seeds", "1"])
        texts.append(Path("docs/paper-tiny.md").read_text())
    assert texts[0] == texts[1]
    assert all(f"## {part['title']}" in texts[0] for part in PARTS.values())
    for name in FIGURES:
        file = Path(f"docs/figures/paper-tiny-{name}.png")
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 300_000
        assert f"](figures/{file.name})" in texts[0]


def test_cells_say_what_the_interval_says() -> None:
    found = Estimate(3.14, 1.0, 5.2)
    assert plus_minus(found) == "3.1 ±2.1"
    assert gain(found) == "+3.1 [+1.0, +5.2]"
    assert times(Estimate(21.34, 21.33, 21.35)) == "× 21.3"
    assert times(Estimate(21.34, 20, 22)) == "× 21.3 [20.0, 22.0]"
    assert [standing(Estimate(1, low, high)) for low, high in ((0.5, 2), (-1, 2), (-2, -1))] == [
        "+1.0 above", "+1.0 noise", "+1.0 below",
    ]  # fmt: skip
    assert {plus_minus(None), gain(None), times(None), standing(None), number(None), power(None)} == {"-"}
    assert power(3.42e18) == "3.4e18"
