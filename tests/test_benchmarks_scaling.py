from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scaling, scaling_rows, scaling_store
from benchmarks.scaling_rows import Size
from benchmarks.scaling_store import LAYOUTS, Layout
from lit_prm.models.reference.store import LogpStore

SMALL = Size(4, 32, 300)


def test_an_update_is_timed_only_with_the_losses_of_responses_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    row = scaling_rows.measured(SMALL, "tiny", 1)
    assert row["seconds"] > 0
    assert row["products"] > 0

    right = scaling_rows.rewards
    monkeypatch.setattr(  # whole batches are misread, responses alone are not
        scaling_rows, "rewards", lambda *a, **named: right(*a, **named) * (1 if named else 1.01)
    )
    with pytest.raises(SystemExit, match="no times"):
        scaling_rows.measured(SMALL, "tiny", 1)


def test_the_second_loss_tells_gradients_apart() -> None:
    batch = scaling_rows.problem(SMALL)
    first, second = scaling_rows.updates(scaling_rows.model(SMALL, "tiny"), batch, scaling_rows.plain, 2)[0]
    assert abs(first - second) > 100 * scaling_rows.FAR


def test_a_response_alone_has_no_pair_and_still_an_update() -> None:
    assert SMALL.pairs == 4
    assert Size(1, 32, 300).pairs == 0
    assert scaling_rows.measured(Size(1, 32, 300), "tiny", 1)["seconds"] > 0


@pytest.mark.parametrize("layout", [None, Layout(False, 4096), Layout(True, 4096), Layout(True, 16384)])
def test_a_store_is_measured_in_the_layout_that_was_asked_for(layout: Layout | None, tmp_path: Path) -> None:
    row = scaling_store.measured(5000, layout)
    assert row["tokens"] >= 5000
    assert row["bytes_per_token"] > 4
    if layout:
        layout.make(str(tmp_path / "store"))
        store = LogpStore(str(tmp_path / "store"))
        store.write(scaling_store.drawn(100))
        with store._whole() as database:
            assert database.execute("PRAGMA page_size").fetchone() == (layout.page,)
            (made,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'logps'").fetchone()
        assert ("WITHOUT ROWID" not in made) == layout.rowid


def test_a_store_that_gives_back_something_else_is_not_timed(tmp_path: Path) -> None:
    entries, store = list(scaling_store.drawn(2000)), LogpStore(str(tmp_path / "store"))
    scaling_store.write(store, entries)
    scaling_store.refuse_other_entries(store, entries)
    address, logps = entries[-1]
    for wrong in ((address, logps + 1), (b"other", logps)):
        with pytest.raises(SystemExit, match="no times"):
            scaling_store.refuse_other_entries(store, [*entries[:-1], wrong])


def test_growth_is_told_against_the_law() -> None:
    rows = [
        {"responses": n, "length": 8, "vocabulary": 9, "seconds": s, "products": p, "bytes": b}
        for n, s, p, b in ((2, 1.0, 10, 1e6), (8, 6.0, 40, 2e6))
    ]
    assert scaling.against(rows, "seconds", "responses") == 1.5
    assert scaling.of_update("responses", rows).split() == ["8", "6.00", "1.50", "1.50", "2", "0.50"]
    assert scaling.growth("responses", rows) == "from 2 to 8: responses 4.0x, CPU seconds 6.0x, pairs 16.0x"


def test_the_script_measures_a_row_when_asked_and_writes_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["scaling", *arguments, "--quick"])
        scaling.main()
        return capsys.readouterr().out

    def in_this_process(kind: str, i: int, _: object) -> Any:
        return json.loads(told("--measure", kind, str(i)).splitlines()[-1])

    monkeypatch.setattr(scaling, "fresh", in_this_process)
    out = tmp_path / "rows.json"
    assert "torch" in told("--rows", "store", "layouts", "--json", str(out))
    found = json.loads(out.read_text())
    assert [row["layout"] for row in found["store"]] == ["as it is"] * 2
    assert [row["layout"] for row in found["layouts"]] == [str(layout) for layout in LAYOUTS[:2]]
    assert found["store"][0]["tokens"] < found["store"][1]["tokens"] == found["layouts"][0]["tokens"]
