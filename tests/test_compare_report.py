"""What a comparison says of configurations, code and data, and the pages it says it on."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from lit_prm.evaluation.estimate import Estimate, level, power, probability
from lit_prm.evaluation.plots import inline, label, styles, text
from lit_prm.evaluation.tables import Cell, Table, escaped
from lit_prm.reports.compare.against import beside_paper
from lit_prm.reports.compare.command import show_comparison
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.figures import FIGURES, curves
from lit_prm.reports.compare.sections import differences, report, warnings
from lit_prm.reports.compare.tables import headline
from lit_prm.reports.document import Report, Section, markdown, page
from lit_prm.reports.paper_numbers import paper
from lit_prm.reports.runs import Experiment
from tests.compare_runs import experiment, run

HOSTILE = "<script>alert('x')</script> | `$a_b$` **c** & \"d\" [e](http://f)"


def of(name: str, *runs: Any) -> Experiment:
    return Experiment(name, runs)


def configured(name: str, seed: int = 0, **params: Any) -> Any:
    shown = {
        "run_dir": f"runs/tiny/{name}/seed-{seed}",
        "name": name,
        "seed_everything": str(seed),
        "model.beta": "1.0",
    }
    kept = {key.replace("__", "."): value for key, value in params.items()}
    return run(name, seed, {"test": [0.5, 0.0]}, params={**shown, **kept})


# --- configurations -------------------------------------------------------------------------------


def test_a_difference_is_found_and_noise_is_not() -> None:
    a = of("a", configured("a", 0, data__root="x/seed-0"), configured("a", 1, data__root="x/seed-1"))
    b = of("b", configured("b", 0, data__root="x/seed-0", model__beta="2.0", out="runs/tiny/b/seed-0/f"))
    c = of("c", configured("c", 2, data__root="x/seed-2", out="runs/tiny/c/seed-2/f"))
    found = differences([a, b, c])
    assert found is not None
    assert found.rows == (("model.beta", "1.0", "2.0", "1.0"), ("out", "absent", "<run>/f", "<run>/f"))


def test_equal_configurations_have_no_table() -> None:
    assert differences([of("a", configured("a", 0)), of("b", configured("b", 3))]) is None


def test_a_seed_that_is_set_is_a_difference_and_the_runs_own_is_not() -> None:
    a = of("a", *(configured("a", s, data__seed=str(s), labeler__seed="0") for s in (0, 1)))
    b = of("b", *(configured("b", s, data__seed=str(s), labeler__seed="5") for s in (0, 1)))
    found = differences([a, b])
    assert found is not None
    assert found.rows == (("labeler.seed", "0", "5"),)


def test_classes_and_lists_of_classes_are_compared_by_name() -> None:
    one: list[Any] = [{"class_path": "callbacks.BestOfN", "init_args": {"size": 1}}, {"class_path": "callbacks.Costs"}]
    other = [{"class_path": "callbacks.BestOfN", "init_args": {"size": 2}}, *one[1:]]
    a = of("a", configured("a", callbacks=one, model__loss__class_path="lit_prm.losses.ce.CE"))
    b = of("b", configured("b", callbacks=other, model__loss__class_path="lit_prm.losses.dpo.DPO"))
    none = of("c", configured("c", callbacks=[1, 2], model__loss__class_path="CE"))
    found, plain = differences([a, b]), differences([a, none])
    assert found is not None
    assert found.rows == (("callbacks.BestOfN.size", "1", "2"), ("model.loss", "CE", "DPO"))
    assert plain is not None
    assert ("callbacks", "absent", "[1, 2]") in plain.rows


# --- warnings -------------------------------------------------------------------------------------


def test_equal_runs_need_no_warning() -> None:
    assert warnings([experiment("a", [[0.5], [0.5]]), experiment("b", [[0.5], [0.5]])]) == []


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"commit": "b" * 40}, r"different commits: aaaaaaaa \(a 0\); bbbbbbbb \(b 0\)"),
        ({"dirty": True}, "star marks"),
        ({"commit": None}, "do not say which commit"),
        ({"versions": {"torch": "3"}}, r"Versions of torch differ: not said \(a 0\); 3 \(b 0\)"),
        ({"digests": {"test": "e" * 64}}, r"Data 'test' of seed 0 differ: world of \(a\); eeeeeeee \(b\)"),
    ],
)
def test_other_code_versions_or_data_are_told(facts: dict[str, Any], told: str) -> None:
    both = [of(name, run(name, 0, {"test": [0.5]}, **f)) for name, f in (("a", {}), ("b", facts))]
    assert re.search(told, " ".join(warnings(both)))


def test_seeds_may_have_data_of_their_own() -> None:
    assert warnings([experiment("a", [[0.5], [0.5]])]) == []
    nameless = replace(run("b", 0, {"test": [0.5]}), digests={})
    assert warnings([experiment("a", [[0.5]]), of("b", nameless)]) == ["b does not say which data it read."]


# --- pages ----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.outside, self.words, self.ids = set[str](), list[str](), "", list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value or "" for key, value in attrs if key == "id"]
        links = {"href", "xlink:href", "src", "srcset", "action", "data", "poster"}
        self.outside += [value for key, value in attrs if key in links and value and not value.startswith("#")]
        self.outside += [key for key, _ in attrs if key.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words += data


def everything(names: tuple[str, str] = ("a", "b")) -> tuple[Report, dict[str, str]]:
    metrics = {f"bon/test/level-{i}/acc@16": 0.1 * i for i in (1, 2)} | {"cost/total_flops": 2e12}
    facts: dict[str, Any] = {"metrics": metrics, "histories": {"train/loss": [(0, 0.7), (1, 0.6)]}}
    made = [
        of(name, *(run(name, s, {"test": [0.1 * i, 0.5, 0.9]}, params={HOSTILE: name}, **facts) for s in (0, 1)))
        for i, name in enumerate(names)
    ]
    evidence = Evidence(made)
    drawn = {name: figure for name, draw in FIGURES.items() if (figure := draw(evidence)) is not None}
    svg = {name: inline(figure, name) for name, figure in drawn.items()}
    return report(evidence, " vs ".join(names), [names[0]], list(drawn), []), svg


def test_the_page_needs_nothing_from_outside_and_has_all_figures_once() -> None:
    made, svg = everything()
    assert svg.keys() == FIGURES.keys()
    html = page(made, svg)
    seen = Page(html)
    assert seen.outside == []
    assert "script" not in seen.tags
    assert html.count("<svg") == len(FIGURES)
    assert len(seen.ids) == len(set(seen.ids))
    assert not re.search(r"url\((?!#)|@import", html)
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', html)) <= set(seen.ids)


def test_names_and_params_are_data_never_markup() -> None:
    made, svg = everything((HOSTILE, "b"))
    html, plain = page(made, svg), markdown(made)
    seen = Page(html)
    assert not seen.tags & {"script", "img", "iframe"}
    assert seen.outside == []
    assert HOSTILE in seen.words
    assert "<script" not in plain.replace("\\<script", "")
    assert "](http" not in plain.replace("\\](http", "")
    rows = [line for line in plain.splitlines() if line.startswith("|")]
    unescaped = {len(re.findall(r"(?<!\\)\|", row)) for row in rows if "alert" in row}
    assert unescaped <= {len(re.findall(r"(?<!\\)\|", row)) for row in rows if "alert" not in row}


def test_a_page_without_figures_and_tables_is_still_one() -> None:
    empty = Evidence([of("a", replace(run("a", 0, {}), problems={}))])
    made = report(empty, "a", [], [], [])
    assert [s.title for s in made.sections] == ["Compared"]
    assert all(draw(empty) is None for draw in FIGURES.values())
    assert "<table" in page(made, {})


def test_markdown_marks_what_is_beyond_noise_and_links_figures() -> None:
    table = Table(("x", "y"), (("a", Cell("1", "best")), ("b", Cell("2", "quiet"))), title="t")
    told = markdown(Report("r", "s", ("w",), (Section("S", "words", (table,), ("curves",)),)))
    assert "| a | **1** |\n| b | 2 |" in told
    assert "![S](figures/curves.png)" in told
    assert "- **w**" in told
    assert escaped("a\n|b") == "a \\|b"


def test_a_long_folded_table_is_only_in_the_page() -> None:
    many = Table(("x", "y"), (("a", "1"),) * 61, title="t", folded=True)
    made = Report("r", "s", (), (Section("S", "", (many, replace(many, folded=False))),))
    assert "**t**: 61 rows, in `report.html`" in markdown(made)
    assert markdown(made).count("| a | 1 |") == 61
    assert page(made, {}).count("<details") == 1


def test_the_terminal_shows_all_of_few_pairs_and_those_with_the_first_of_many() -> None:
    made = [experiment(f"e{i}", [[0.1 * i, 0.5]]) for i in range(7)]
    for count, pairs in ((3, 3), (7, 6)):
        console = Console(width=200, record=True, file=io.StringIO())
        show_comparison(Evidence(made[:count]), console)
        printed = console.export_text()
        assert len(re.findall(r"e\d - e\d", printed)) == pairs
        assert re.search(r"e1 +30.0", printed)


# --- cells and figures ----------------------------------------------------------------------------


def test_cells() -> None:
    nan = float("nan")
    assert [level(x) for x in (None, Estimate(42.54, 40, 45.06), Estimate(1, nan, nan))] == [
        "-",
        "42.5 [40.0, 45.1]",
        "1.0",
    ]
    assert [probability(p) for p in (nan, 0.0, 0.0123, 0.5, 1.0)] == [
        "",
        "p < 0.001",
        "p = 0.012",
        "p = 0.50",
        "p = 1.00",
    ]
    assert [power(x) for x in (None, 0.0, 3.44e18)] == ["-", "0", "3.4e18"]


def test_the_best_is_marked_only_where_there_is_one() -> None:
    (table,) = headline(Evidence([experiment("a", [[0.5, 0.1]]), experiment("b", [[0.5, 0.2]])]))
    assert [getattr(row[1], "tone", "") for row in table.rows] == ["", "best"]
    (even,) = headline(Evidence([experiment("a", [[0.5]]), experiment("b", [[0.5]])]))
    assert [getattr(row[1], "tone", "") for row in even.rows] == ["", ""]


def test_an_experiment_keeps_its_colour_in_every_figure() -> None:
    many = styles([f"e{i}" for i in range(33)])
    assert len({tuple(style.items()) for style in many.values()}) == 33
    figure = curves(Evidence([experiment("a", [[0.5, 0.2]]), experiment("b", [[0.5, 0.4]])]))
    lines = {line.get_label(): line.get_color() for line in figure.axes[0].get_lines()}  # type: ignore[union-attr]
    assert [lines[name] for name in "ab"] == [styles("ab")[name]["color"] for name in "ab"]


def test_drawn_bands_are_the_intervals() -> None:
    evidence = Evidence([experiment("a", [[0.5, 0.2, 0.9]])])
    found = evidence.estimate("a", "bon", ("test",), (4,))
    figure = curves(evidence)
    assert found is not None
    assert figure is not None
    ends = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((found.low, found.high))


def test_dollars_are_no_mathematics() -> None:
    assert text("a$b") == r"a\$b"
    assert text("a_b") == "a_b"
    assert label("short") == "short"
    assert len(label("x" * 40 + "end")) == 36
    assert label("x" * 40 + "end").endswith("xend")


# --- the paper ------------------------------------------------------------------------------------


def test_the_papers_row_stands_below_ours() -> None:
    evidence = Evidence(
        [experiment("ce-8resp", [[0.5]]), experiment("shepherd-8resp-hard", [[0.25]]), experiment("other", [[1.0]])]
    )
    table = beside_paper(evidence).tables[0]
    rows = {row[0]: row[1:] for row in table.rows}
    theirs = paper().rows["ce-8resp"]
    assert list(rows)[:4] == [
        "ce-8resp",
        f"paper: {theirs.label}",
        "shepherd-8resp-hard",
        "paper: Math-Shepherd (re-implemented)",
    ]
    assert rows[f"paper: {theirs.label}"] == (f"{theirs.mean(('test',)):.1f}", "-", "52.6", "54.4", "53.0")
    gap = paper().rows["shepherd-8resp"].mean(("test",)) - theirs.mean(("test",))
    assert rows["paper: Math-Shepherd (re-implemented)"][1] == f"{gap:+.1f}"
    assert rows["shepherd-8resp-hard"][:2] == ("25.0", "-25.0")
    assert list(rows)[4:] == ["other"]


def test_nothing_of_the_papers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"experiments other, of which it has none; .* leave --against paper out"):
        beside_paper(Evidence([experiment("other", [[0.5]])]))
