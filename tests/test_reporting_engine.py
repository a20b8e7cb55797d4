"""The parts that all reports share: estimates, tables in three writers, figures, files."""

from __future__ import annotations

import io
import json
import math
import re
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lit_prm.evaluation import plots
from lit_prm.evaluation.estimate import Estimate, by_count, gain, level, number, percent
from lit_prm.evaluation.intervals import bootstrap_interval
from lit_prm.evaluation.tables import Cell, Table, escaped, markdown, show
from lit_prm.reports.document import Report, Section, page
from lit_prm.reports.files import json_value, write_json

TABLE = Table(
    ("rule", "N=4"),
    (("ours", Cell("50.0", "gain")), (), ("paper", Cell("49.0", "theirs")), ("<b>", Cell("-", "quiet"))),
    "accuracy, %",
    ("peak at *4*",),
)


# --- estimates ------------------------------------------------------------------------------------


def test_an_estimate_is_the_mean_with_its_bootstrap_interval() -> None:
    values = np.random.default_rng(0).random(30)
    assert Estimate.of(values) == (values.mean(), *bootstrap_interval(values))
    assert Estimate.of(values).scaled() == pytest.approx([100 * x for x in Estimate.of(values)])
    assert math.isnan(Estimate.of([0.5]).low)


def test_a_curve_has_an_estimate_at_every_count_and_no_interval_unless_wanted() -> None:
    values = np.random.default_rng(1).random((20, 2))
    points = by_count((1, 4), values)
    assert points[4] == Estimate.of(values[:, 1]).scaled()
    assert [e.mean for e in by_count((1, 4), values, interval=False).values()] == [e.mean for e in points.values()]
    assert math.isnan(by_count((1, 4), values, interval=False)[1].high)


def test_numbers_that_are_not_known_are_dashes() -> None:
    nan = float("nan")
    unknown = [level(None), gain(Estimate(nan, nan, nan)), number(None), number(nan, ".3g"), percent(None)]
    assert unknown == ["-"] * 5
    assert (level(Estimate(1, nan, nan)), gain(Estimate(1, nan, nan))) == ("1.0", "+1.0")
    assert (level(Estimate(41.2, 38, 44), ends=".0f"), percent(0.425)) == ("41.2 [38, 44]", "42.5")


# --- tables ---------------------------------------------------------------------------------------


def printed(*tables: Table | None, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    show(tables, console)
    return console.export_text()


def test_the_terminal_shows_rules_and_notes_and_leaves_empty_tables_out() -> None:
    text = printed(TABLE, None, Table(("a", "b"), (), "nothing"))
    body = [line.rstrip() for line in text.splitlines()]
    assert "nothing" not in text
    assert body[-1] == "peak at *4*"
    assert [" ".join(line.split()) for line in body if "ours" in line or "paper" in line] == ["ours 50.0", "paper 49.0"]
    ours = next(i for i, line in enumerate(body) if "ours" in line)
    assert body[ours + 1] == ""  # the rule between them


def test_numbers_never_break_over_lines_unless_the_table_wraps() -> None:
    wide = Table(("rule", "N=4"), (("a label of many words that may break", "50.0 [40.0, 60.0]"),))
    assert "50.0 [40.0, 60.0]" in printed(wide, width=30)
    text = Table(("a", "source"), (("x", "one two three four five six seven eight"),), numbers=False, wraps=True)
    assert "eight" in printed(text, width=20)


def test_markdown_marks_tones_and_shows_text_as_it_is() -> None:
    assert markdown(TABLE).splitlines() == [
        "**accuracy, %**", "",
        "| rule | N=4 |", "| --- | ---: |", "| ours | **50.0** |", "| paper | *49.0* |", "| \\<b\\> | - |", "",
        "peak at \\*4\\*",
    ]  # fmt: skip


@given(st.text(max_size=30))
def test_escaped_text_is_one_cell_without_active_signs(text: str) -> None:
    shown = escaped(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[|*_`<>~$]", shown.replace("\\\\", ""))
    assert "](" not in shown.replace("\\](", "")


def test_the_page_shows_the_same_table_with_classes_for_tones() -> None:
    html = page(Report("a & b", "runs", (), (Section("S", "One.\n\nTwo.", (TABLE,)),)), {})
    assert '<th scope=row>&lt;b&gt;</th><td class="quiet">-</td>' in html
    assert '<td class="theirs">49.0</td>' in html
    assert html.count("<tr>") == 4  # the heading and three rows; the rule is none
    assert "<p>One.</p><p>Two.</p>" in html
    assert "<p>peak at *4*</p>" in html
    assert "<title>a &amp; b</title>" in html


# --- figures --------------------------------------------------------------------------------------


def test_the_axis_ends_above_the_other_lines_whatever_any_of_n_reaches() -> None:
    ours = plots.Series({1: Estimate(40, 35, 45), 4: Estimate(50, 45, 55)}, "ours", {"color": "#000000"})
    oracle = plots.Series({1: Estimate(40, 40, 40), 4: Estimate(99, 99, 99)}, "any right", plots.ANY, band=False)
    panel = plots.over_candidates(["t"], [[ours, oracle]]).axes[0]
    assert panel.get_ylim()[1] == pytest.approx(61)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "4"]
    assert len(panel.collections) == 1  # one band
    assert plots.over_candidates(["t"], [[ours]]).axes[0].get_ylim()[1] < 61


def test_a_figure_over_flops_has_every_point_its_bar_and_its_note() -> None:
    group = plots.Series({1e12: Estimate(40, 35, 45), 4e12: Estimate(50, 45, 55)}, "CE", {"color": "#000000"},
                         notes=("1", "8"))  # fmt: skip
    panel = plots.over_flops("t", [group], "accuracy").axes[0]
    assert [text.get_text() for text in panel.texts] == ["1", "8"]
    assert {"1e12", "2e12", "5e12"} <= {label.get_text() for label in panel.get_xticklabels()}


def test_figures_are_saved_whole_as_their_suffix_says(tmp_path: Path) -> None:
    figure, _ = plots.panels(["a $ b"])
    png, svg = plots.save(figure, tmp_path / "new" / "f.png", tmp_path / "new" / "f.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "a $ b" in svg.read_text()
    assert sorted(p.name for p in png.parent.iterdir()) == ["f.png", "f.svg"]


# --- files ----------------------------------------------------------------------------------------


def test_json_has_null_for_nan_and_names_for_named_tuples(tmp_path: Path) -> None:
    pair = namedtuple("pair", "a b")
    value = {"x": pair(np.array([1.0, math.nan]), math.inf), 2: (np.float64(0.5), None)}
    assert json_value(value) == {"x": {"a": [1.0, None], "b": None}, "2": [0.5, None]}
    write_json(tmp_path / "new" / "f.json", value)
    assert json.loads((tmp_path / "new" / "f.json").read_text(), parse_constant=pytest.fail) == json_value(value)
