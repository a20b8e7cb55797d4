from __future__ import annotations

import re

import pytest
from rich.console import Console

from lit_prm.evaluation.estimate import Estimate, level
from lit_prm.reports.run_tables import best_of_n_table

SCORERS = ("sum", "min", "reference-sum", "reference-min", "shortest", "longest", "random")
PARTS = ("level-1", "level-5", "subject-counting-probability")


def metrics(*counts: int, name: str = "test") -> dict[str, float]:
    """Metrics as a judgement logs them; the value of every row at N is (its number + N / 1000)."""
    made: dict[str, float] = {}
    for n in counts:
        rows = [f"{m}/{name}" for m in ("bon", "vote", "majority", "any")]
        rows += [f"bon/{name}/{s}" for s in SCORERS] + [f"vote/{name}/{s}" for s in ("sum", "min", "reference-min")]
        rows += [f"{m}/{name}/{part}" for part in PARTS for m in ("bon", "vote", "majority", "any")]
        made |= {f"{row}/acc@{n}": (i + n / 10) / 100 for i, row in enumerate(rows)}
        for gain, value in (("bon-random", 0.05), ("vote-majority", -0.02)):
            key = f"gain/{name}/{gain}@{n}"
            made |= {key: value + n / 1000, f"{key}/low": value - 0.01, f"{key}/high": value + 0.03}
    made |= {f"steps/{name}/first_error_found": 0.49}
    made |= {f"gain/{name}/first_error-chance{end}": v for end, v in (("", 0.213), ("/low", 0.181), ("/high", 0.244))}
    return made | {f"outcome/{name}/auc": 0.7931, f"outcome/{name}/auc_within_problems": 0.6321}


def shown(given: dict[str, float], width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115  closed with the test
    best_of_n_table(given, console=console)
    console.file.close()
    return console.export_text().splitlines()


def cells(lines: list[str], label: str) -> list[str]:
    """What stands behind a label, in the only line that begins with it."""
    (line,) = [line for line in lines if line.strip().startswith(label)]
    return line.strip().removeprefix(label).split()


@pytest.mark.parametrize("counts", [(1,), (1, 2, 4, 8, 10), (1, 2, 4, 8, 16, 32, 64), tuple(2**i for i in range(11))])
def test_eighty_columns_are_enough_and_nothing_is_cut_or_wrapped(counts: tuple[int, ...]) -> None:
    lines = shown(metrics(*counts))
    assert max(len(line) for line in lines) <= 80
    assert not any("…" in line for line in lines)
    wide = shown(metrics(*counts), width=200)
    assert [line.split() for line in lines] == [line.split() for line in wide]


def test_rows_stand_in_the_order_of_interest_each_once() -> None:
    lines = shown(metrics(1, 2, 4, 16))
    body = lines[: next(i for i, line in enumerate(lines) if "paired gains" in line)]
    labels = [line[:28].strip() for line in body if line[28:].strip() and line[:1] == " "]
    assert [label for label in labels if not label.startswith(("chosen by", "─"))] == [
        "best of N, sum", "best of N, min", "weighted vote, sum", "majority vote", "any right",
        "ref. log-lik., sum", "ref. log-lik., worst step", "shortest", "longest", "random", "vote by ref. log-lik.",
    ]  # fmt: skip


def test_cells_are_the_metrics_in_percent() -> None:
    given = metrics(1, 4, 16)
    lines = shown(given)
    wanted = {
        "best of N, sum": "bon/test/sum", "best of N, min": "bon/test/min", "weighted vote, sum": "vote/test/sum",
        "majority vote": "majority/test", "any right": "any/test", "ref. log-lik., sum": "bon/test/reference-sum",
        "ref. log-lik., worst step": "bon/test/reference-min", "shortest": "bon/test/shortest",
        "longest": "bon/test/longest", "random": "bon/test/random", "vote by ref. log-lik.": "vote/test/reference-min",
    }  # fmt: skip
    assert cells(lines, "chosen by") == ["N=1", "N=4", "N=16"]
    for label, key in wanted.items():
        assert cells(lines, label) == [f"{100 * given[f'{key}/acc@{n}']:.1f}" for n in (1, 4, 16)]


def test_gains_carry_their_sign_and_interval() -> None:
    lines = shown(metrics(1, 2, 4, 8, 16, 32))
    assert cells(lines, "best of 4 minus random") == ["+5.4", "[+4.0,", "+8.0]"]
    assert cells(lines, "vote of 16 minus majority") == ["-0.4", "[-3.0,", "+1.0]"]
    assert cells(lines, "... minus chance") == ["+21.3", "[+18.1,", "+24.4]"]
    assert cells(lines, "first wrong step found, %") == ["49.0"]
    marked = shown(metrics(1, 2, 4, 16) | {"steps/test/slip/first_error_found": 0.123})
    assert cells(marked, "first wrong step found, slip, %") == ["12.3"]
    assert cells(lines, "outcome AUC within problems") == ["0.632"]
    assert not any("of 8 minus" in line or "of 32 minus" in line for line in lines)


@pytest.mark.parametrize(("counts", "told"), [((1, 2, 4, 8, 10), (4, 10)), ((1, 2), (2,)), ((1,), ())])
def test_gains_at_the_largest_n_stand_for_those_at_16_where_there_is_none(
    counts: tuple[int, ...], told: tuple[int, ...]
) -> None:
    lines = shown(metrics(*counts))
    assert [line.split()[2] for line in lines if re.match(r" *best of .* minus random", line)] == [str(n) for n in told]


def test_subjects_and_levels_are_shown_at_sixteen_or_the_largest() -> None:
    for counts, n in (((1, 4, 16, 64), 16), ((1, 4, 10), 10)):
        given = metrics(*counts)
        lines = shown(given)
        assert any(line.startswith(f"test: accuracy by level and subject at N={n}, %") for line in lines)
        for label, part in (("level 5", "level-5"), ("counting probability", "subject-counting-probability")):
            methods = ("bon", "vote", "majority")
            assert cells(lines, label) == [f"{100 * given[f'{m}/test/{part}/acc@{n}']:.1f}" for m in methods]


def test_every_set_has_its_tables_and_what_is_unknown_has_no_row() -> None:
    some = {k: v for k, v in metrics(1, 4, name="b.c").items() if "level" not in k and "subject" not in k}
    some = {k: v for k, v in some.items() if not k.startswith(("steps/", "outcome/")) and "first_error" not in k}
    text = "\n".join(shown(metrics(1, 4) | some))
    assert text.index("test: accuracy of the chosen") < text.index("b.c: accuracy of the chosen")
    assert "b.c: accuracy by level" not in text
    assert text.count("outcome AUC within") == 1
    assert shown({"train/loss": 0.5}) == []


def test_an_interval_is_shown_where_it_was_recorded() -> None:
    def shown(metrics: dict[str, float]) -> str:
        share = Estimate.recorded(metrics, "a")
        return level(share.scaled() if share else None, ends=".0f")

    assert shown({"a": 0.412, "a/low": 0.38, "a/high": 0.441}) == "41.2 [38, 44]"
    assert shown({"a": 0.412}) == "41.2"
    assert shown({}) == "-"


def test_a_new_baseline_stands_below_what_was_trained_by_its_own_name() -> None:
    """Adding a scorer to the judge is all it takes."""
    given = metrics(1, 4) | {f"bon/test/confidence/acc@{n}": 0.123 for n in (1, 4)}
    lines = shown(given)
    assert cells(lines, "confidence") == ["12.3", "12.3"]
    place = [i for i, line in enumerate(lines) if line.strip().startswith(("any right", "confidence"))]
    assert place == sorted(place)
