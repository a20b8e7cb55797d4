"""Laws of final answers: extraction finds what is stated, equality is exact, grading cannot hang or run code."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prm.answers import (
    all_equivalent,
    equivalent,
    is_correct,
    matches,
)
from tests.fresh_verdicts import cache, no_worker, own_verdicts  # noqa: F401  fixtures

# ---- equality ----


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(-50, 50), st.integers(1, 50))
@settings(deadline=None)
def test_numbers_are_compared_exactly_in_every_spelling(a: int, b: int, c: int, d: int) -> None:
    assert equivalent(f"{a}/{b}", rf"\frac{{{c}}}{{{d}}}") == (Fraction(a, b) == Fraction(c, d))
    assert equivalent(f"{a}.50", str(a)) is False
    assert equivalent(f"{a}.00", str(a)) is True


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("0.5", "1/2", True),
        ("0.333", "1/3", False),
        ("-1/2", r"\frac{-1}{2}", True),
        ("1e3", "1e3", True),
        ("East", r"\text{east}", True),
        ("east", "seat", False),  # letters are not factors of a product
        ("12 inches", "12", True),
        ("7", "7" * 400, False),
        ("x" * 400, "y" * 400, False),
        ("", "0", False),
        ("10_2", "10_3", False),  # math-verify calls these equal
        ("-x = 12", "x = 12", False),  # math-verify compares the right sides once one x = is gone
        ("10_2", "10", False),
        ("10_{2}, 11_2", "10_3, 11_3", False),
        ("1A_{16}", "1A_{12}", False),
        ("1101_{2}", "1101_2", True),
        (r"2413_{\text{5}}", "2413_5", True),
    ],
)
def test_text_and_numbers_need_no_symbolic_comparison(a: str, b: str, same: bool) -> None:
    assert equivalent(a, b) is equivalent(b, a) is same


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (r"\sqrt{8}", r"2\sqrt2", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("(x+1)^2", "x^2+2x+2", False),
        ("(3, π/2)", r"\left(3,\frac{\pi}{2}\right)", True),
        ("(1,2)", "(2,1)", False),
        ("[0,1)", "[0,1]", False),
        ("1, 2", "2, 1", True),
        ("p-q", "q-p", False),
        ("2 3", "23", False),
        ("2 3", "6", False),
        ("x_1 + x_2", "x_2 + x_1", True),  # subscripts of letters are no bases
        (r"\log_2 8", "3", True),
        ("1/0", "1", False),
        (r"\frac{", "1", False),
    ],
)
def test_expressions_are_compared_symbolically_and_symmetrically(a: str, b: str, same: bool) -> None:
    assert equivalent(a, b, timeout=30) is equivalent(b, a, timeout=30) is same


def test_many_pairs_are_compared_like_each_alone() -> None:
    spellings = [r"\sqrt{8}", r"2\sqrt2", "0.5", "1/2", "x+1", "1+x", "-x = 12", "12", "x = 12", "east", "[0,1)"]
    pairs = [(a, b) for a in spellings for b in spellings] + [("x+1", "1+x")]
    assert all_equivalent(pairs, 30) == [equivalent(a, b, 30) for a, b in pairs]
    assert all_equivalent(pairs, 30) == [equivalent(b, a, 30) for a, b in pairs]


def test_importing_answers_is_cheap() -> None:
    code = "import sys, lit_prm.answers; assert not {'sympy', 'math_verify', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


# ---- grading and clusters ----


def test_a_response_is_correct_when_its_answer_is() -> None:
    assert is_correct(r"Thus \boxed{\dfrac{1}{2}}", "0.5")
    assert not is_correct(r"Thus \boxed{2}", "0.5")
    assert not is_correct("I give up.", "None")


def test_numbers_beyond_any_limit_of_digits_are_text() -> None:
    half, third = (f"{'1' * 1900} 1/{n}" for n in (2, 3))
    assert equivalent(half, half)
    assert not equivalent(half, third)
    assert not equivalent("1" * 10_000 + " 1/2", "1" * 10_000 + " 1/3")


CASES = [
    json.loads(line) for line in (Path(__file__).parent / "golden" / "answers.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_response_is_graded_as_a_reader_would(case: dict[str, Any]) -> None:
    assert is_correct(case["response"], case["gold"]) is case["expected"]


@pytest.mark.parametrize(
    ("gold", "candidate", "right", "also_reversed"),
    [
        ("5x - 7y + 11z + 4 = 0", "0", False, True),
        ("[-2,7]", r"x^2-5x-4 \le 10", False, True),
        (r"(-2,2)", r"x^2 < 4", False, True),
        ("[-2,7]", r"-2 \le x \le 7", True, True),
        (r"[2, \infty)", r"2 \le x", True, True),
        ("12", "a + b = 12", True, False),
        ("x + y = 0", "0", False, True),
        ("x^2 + 1", "f(x) = x^2 + 1", True, True),
        ("3x - y + 13 = 0", "6x - 2y + 26 = 0", True, True),
    ],
)
def test_the_gold_answer_comes_first(gold: str, candidate: str, right: bool, also_reversed: bool) -> None:
    assert matches(gold, candidate, 30) is right
    assert matches(candidate, gold, 30) is also_reversed
    assert equivalent(gold, candidate, 30) is equivalent(candidate, gold, 30) is (right and also_reversed)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("4t", "4", False),
        (r"\pi r^2 h", r"\pi r^2", False),
        (r"\frac{R}{r}", "1", False),
        (r"\text{(E)}+1", r"\text{(E)}", False),  # no option with a text
        (r"\left(\frac{7}{9}, \frac{2}{9}\right)", r"-\left(\frac{7}{9}, \frac{2}{9}\right)", False),
        ("2X + 1", "2x + 1", False),
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", False),
        (r"\frac{1}{2^{98}}", r"-\frac{1}{2^{98}}", False),
        (r"1.414214", r"\sqrt{2}", True),
        (r"\sin(\pi)", "0", True),
    ],
)
def test_letters_and_sizes_count(a: str, b: str, same: bool) -> None:
    assert equivalent(a, b, 30) is same


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("9:24", "3:08", False),
        ("9:24", "3/8", False),
        ("05:00", "5:00", True),
        ("5:00 p.m.", r"5\!:\!00 \text{ PM}", True),
        ("5:00 pm", "5:00 am", False),
        ("5:00 pm", "17:00", True),
        ("5:00 pm", "5:00", True),
        ("12:30 am", "0:30", True),
        ("1:00", "13:00", False),
        ("1:2:3", "2:4:6", True),
        ("1:2:3", "1:3:2", False),
        ("1:4", "2:8", True),
        ("(C) 14", "C", True),
        ("B", "(C) 14", False),
        (r"\text{E: the third one}", "E", True),
        ("(B) 12", "12", True),
        ("(B) 12", "(C) 12", False),
        ("(B) 12", "(B) 13", False),
        ("3e5", r"3\times10^5", True),
        (r"1.6\times 10^{-19}", "1.7e-19", False),
        (r"0.\overline{3}", "1/3", True),
        (r"2.\bar{9}", "3", True),
        ("1000", r"1,\!000", True),
    ],
)
def test_times_ratios_options_and_powers_are_compared_in_the_process(a: str, b: str, same: bool) -> None:
    assert matches(a, b) is matches(b, a) is same


@pytest.mark.skipif("LIT_PRM_DATA" not in os.environ, reason="set LIT_PRM_DATA")
def test_real_labels_are_reproduced_where_an_answer_is_boxed() -> None:
    path = Path(os.environ["LIT_PRM_DATA"]) / "math500_candidates_n10.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:40]
    agree = [
        is_correct(text, row["reference"]) == bool(label)
        for row in rows
        for text, label, doubtful in zip(row["completions"], row["correctness"], row["ambiguous"], strict=True)
        if "\\boxed" in text and not doubtful
    ]
    assert sum(agree) / len(agree) > 0.98
