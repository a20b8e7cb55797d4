"""Laws of final answers: extraction finds what is stated, equality is exact, grading cannot hang or run code."""

from __future__ import annotations

import gzip
import inspect
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prm.answers import (
    all_equivalent,
    cluster,
    comparison,
    equivalent,
    extract_answer,
    guess_answer,
    is_correct,
    normalise,
)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("verdicts"))


@pytest.fixture(autouse=True)
def _own_verdicts(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older judge found must not answer for this one."""
    monkeypatch.setenv("LIT_PRM_CACHE", cache)


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when a comparison leaves the fast paths."""

    def refuse(pairs: Sequence[tuple[str, str]], timeout: float) -> list[bool]:
        raise AssertionError(f"symbolic comparison of {pairs}")

    monkeypatch.setattr(comparison, "symbolically_equal", refuse)


# ---- extraction ----


@given(
    st.text("abc{}\\$ 12", max_size=30), st.recursive(st.just("x"), lambda s: s.map(lambda t: f"\\frac{{{t}}}{{2}}"))
)
@settings(max_examples=100, deadline=None)
def test_the_last_box_is_the_answer_whatever_stands_before_it(before: str, answer: str) -> None:
    text = f"{before} \\boxed{{7}} so \\boxed{{{answer}}}. Done, the answer is 4."
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{3} and #### 4", "3"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"first \boxed{1}, then \boxed{2 and it was cut", "1"),
        (r"\boxed{} the answer is 3.", "3"),
        ("4 + 5 = 9\n#### 9\n", "9"),
        ("#### 1,200\nor rather\n#### 1,300", "1,300"),
        ("The answer is 3.5. I am sure.", "3.5"),
        ("Final Answer: (3, π/2)", "(3, π/2)"),
        ("the answer is 1. No, the answer is: 2", "2"),
        ("**Answer:** 12 cm", "12 cm"),
        ("The answer is:\n\\[\n\\frac{1}{2}\n\\]\n", r"\frac{1}{2}"),
        ("The answer is $\\frac{1}{2}$.", r"$\frac{1}{2}$"),
        ("The final answer is: The price of the shirt was \\$36.", "36"),
        ("Answer: by solving these equations, we find that $x=9$.", "9"),
        ("<reasoning>5! = 120</reasoning>\n<answer>120</answer>", "120"),
        ("42", "42"),
        (r"$\frac{3}{4}$", r"$\frac{3}{4}$"),
        ("", None),
        ("I do not know.", None),
        ("Step 1: 3 + 4 = 7", None),
        ("The answer is", None),
    ],
)
def test_golden_extractions(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_a_guess_is_the_stated_answer_or_else_the_last_value() -> None:
    assert guess_answer("3 + 4 is 7. So \\boxed{8}") == "8"
    assert guess_answer("So the number is\n\\[ (2+1)(2+1) = 9 \\]\nTherefore it has 9 positive divisors.") == "9"
    assert guess_answer("(r, t) = $(3, \\frac{\\pi}{2})$ it is") == r"(3, \frac{\pi}{2})"
    assert guess_answer("It is **Carla**, not 5") == "5"
    assert guess_answer("no idea") is None


# ---- normalisation ----


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (r" $ \dfrac12 $ ", r"\frac{1}{2}"),
        (r"\tfrac{3}4", r"\frac{3}{4}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"\text{Evelyn}", "evelyn"),
        ("x = 5.", "5"),
        ("1,234,567", "1234567"),
        (r"1,\!000", "1000"),
        ("12{,}000.50", "12000.50"),
        ("1,23", "1,23"),
        (r"\$18", "18"),
        (r"50\%", "50"),
        ("50 percent", "50"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        ("45 degrees", "45"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        (r"15\mbox{ cm}^2", "15"),
        ("5 square inches", "5"),
        ("1,200 dollars", "1200"),
        ("1 1/2", r"\frac{3}{2}"),
        (r"-2\frac{1}{3}", r"-\frac{7}{3}"),
        (r"\text{(C)}", "C"),
        (r"\sqrt2", r"\sqrt{2}"),
        ("−3", "-3"),
        ("3 million", "3million"),
        ("5 or 6", "5or6"),
        ("10 pm", "10pm"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        ("y = 2x + 1", "2x+1"),
        ("2  3", "2 3"),
        (r"\log_2 8", r"\log_2 8"),
        (r"10\,000", "10000"),
        ("10 000", "10000"),
    ],
)
def test_golden_normal_forms(raw: str, normal: str) -> None:
    assert normalise(raw) == normal
    assert normalise(normal) == normal


# ---- equality ----


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(-50, 50), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
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


def test_clusters_are_numbered_by_first_appearance_without_gold() -> None:
    given_answers = ["0.5", None, r"\dfrac12", "3", r"\sqrt{8}", "1/2", r"2\sqrt{2}", "3.0", None]
    assert cluster(given_answers) == [0, -1, 0, 1, 2, 0, 2, 1, -1]
    assert list(inspect.signature(cluster).parameters) == ["answers"]


def test_answers_of_a_group_are_equivalent_in_pairs_whatever_their_order() -> None:
    chain = ["x-2y+z=0", "0", "5x+3=0", "x-2y+z=0", "[-2,7]", r"-2\le x\le 7", r"x^2\le 49"]
    first = cluster(chain)
    assert first == [0, 1, 1, 0, 2, 2, 3]  # math-verify calls both equations equal to 0, but not to each other
    for order in itertools.islice(itertools.permutations(range(7)), 0, 5040, 211):
        again = cluster([chain[i] for i in order])
        pairs = itertools.product(enumerate(order), repeat=2)
        assert all((first[i] == first[j]) == (again[a] == again[b]) for (a, i), (b, j) in pairs)


@given(st.lists(st.sampled_from(["1", "2/4", "0.5", "1.0", "east", None]), max_size=12))
@settings(max_examples=50, deadline=None)
def test_clusters_are_the_classes_of_equivalence(given_answers: list[str | None]) -> None:
    ids = cluster(given_answers)
    for i, a in zip(ids, given_answers, strict=True):
        for j, b in zip(ids, given_answers, strict=True):
            assert (i == j) == (a is b if a is None or b is None else equivalent(a, b))


@pytest.mark.usefixtures("no_worker")
def test_short_numeric_answers_cluster_in_no_time() -> None:
    for shift in range(200):
        assert cluster([str(i * i % 13 + shift) for i in range(64)])[13] == 0


@pytest.mark.parametrize("unit", [
    r"\boxed{", r"\boxed{}", "{", r"\text{", r"\[", r"\( \[", r"answer:\[ \]", "answer is ", "<answer>", "$$", "**a",
    "1,", "aa ", " ", ". ", "1 1", "####", "percent ", "1A",
])  # fmt: skip
def test_time_grows_with_the_length(unit: str) -> None:
    for text in ((unit * 10**6)[: 10**6], "the answer is " + (unit * 10**6)[: 10**6] + "!"):
        start = time.process_time()
        guess_answer(text)
        normalise(text)
        normalise(text[:2000])
        assert equivalent(text, text)
        assert not equivalent(text, text + "1")
        assert time.process_time() - start < 60  # 0.3 s; a square would take hours


def test_numbers_beyond_any_limit_of_digits_are_text() -> None:
    half, third = (f"{'1' * 1900} 1/{n}" for n in (2, 3))
    assert normalise(normalise(half)) == normalise(half)
    assert equivalent(half, half)
    assert not equivalent(half, third)
    assert not equivalent("1" * 10_000 + " 1/2", "1" * 10_000 + " 1/3")


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
