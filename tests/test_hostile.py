"""Whatever an answer is, grading it ends, leaves nothing behind and calls no near miss equal."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lit_prm.answers import all_equivalent, equivalent, extract_answer, guess_answer, is_correct
from lit_prm.answers.workers import Verdict, verdicts
from tests.hostile_answers import gold_answers, odd_pairs, perturbed

Near = tuple[str, str, str]  # how it was changed, the answer, the changed one

ORDINARY = [
    "0", "12", "-7", "3.75", "1,200", r"\frac{3}{4}", r"-\frac{5}{9}", r"\sqrt{2}", r"2\sqrt{3}", r"\frac{\sqrt{3}}{2}",
    r"\frac{\pi}{6}", "(3,-1)", r"\left(3, \frac{\pi}{2}\right)", "[0,1)", r"(-\infty,2]", "x^2+2x+1", "y = 2x - 13",
    "x = 12", r"\text{Evelyn}", "6+9i", "2, 5", r"90^\circ", r"\$18.50", r"10\%", "2^{98}", "11\\sqrt2", "1101_2",
    r"\begin{pmatrix} 1 & 2 \\ 0 & 3 \end{pmatrix}", "5 \\text{ cm}", "x \\le 4",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh place to run and to keep verdicts in; whatever else appears there was made by an answer."""
    here, place = Path.cwd(), tmp_path_factory.mktemp("hostile")
    kept = os.environ.get("LIT_PRM_CACHE")
    os.environ["LIT_PRM_CACHE"] = str(place / "cache")
    os.chdir(place)
    yield place
    os.chdir(here)
    os.environ.pop("LIT_PRM_CACHE") if kept is None else os.environ.update(LIT_PRM_CACHE=kept)


def grade_odd(folder: Path, seed: int, count: int) -> None:
    for kind, a, b in odd_pairs(seed, count):
        equivalent(a, b, 1.0)
        found = [extract_answer(f"so the answer is \\boxed{{{a}}}"), extract_answer(a), guess_answer(b)]
        assert all(answer is None or answer.strip() for answer in found), kind
    assert [p.name for p in folder.iterdir()] == ["cache"]
    assert {p.name for p in (folder / "cache").iterdir()} <= {f"verdicts.sqlite{end}" for end in ("", "-wal", "-shm")}


def near_misses(answers: Sequence[str], seed: int, each: int | None = None) -> list[Near]:
    rng = random.Random(seed)
    made = [[(kind, answer, other) for kind, other in perturbed(answer, rng)] for answer in answers]
    return [
        near for of_one in made for near in (of_one if each is None else rng.sample(of_one, min(each, len(of_one))))
    ]


def math_verifys_own(nears: Sequence[Near]) -> list[bool]:
    """What math-verify says of the answers as they were written, without any rule of ours."""
    return [verdict is Verdict.EQUAL for verdict in verdicts([(a, b) for _, a, b in nears], 10)]


def only_ours(nears: Sequence[Near]) -> list[Near]:
    """The near misses that we call equal and math-verify does not."""
    equal = [near for near, same in zip(nears, all_equivalent([(a, b) for _, a, b in nears], 10), strict=True) if same]
    return [near for near, same in zip(equal, math_verifys_own(equal), strict=True) if not same]


def test_odd_answers_are_graded_and_leave_nothing(folder: Path) -> None:
    grade_odd(folder, 0, 48)


def test_an_answer_equals_itself_and_no_near_miss(folder: Path) -> None:
    assert all(all_equivalent([(a, a) for a in ORDINARY]))
    nears = near_misses(ORDINARY, 0)
    assert Counter(kind for kind, _, _ in nears).keys() >= {"sign", "digit", "unit", "swapped fraction", "reordered"}
    assert {kind for kind, _, _ in only_ours(nears)} <= {"unit"}  # units are dropped without being read


def test_a_response_is_graded_whatever_stands_before_its_box(folder: Path) -> None:
    for kind, a, _ in odd_pairs(1, 24):
        if kind in ("long", "controls", "noise"):
            assert is_correct(f"{a} \n\\boxed{{7}}", "7"), a[:200]


# ---- the whole ----


@pytest.mark.slow
def test_a_thousand_odd_pairs(folder: Path) -> None:
    grade_odd(folder, 2, 1000)


@pytest.mark.slow
@pytest.mark.skipif("LIT_PRM_DATA" not in os.environ, reason="set LIT_PRM_DATA to the folder of real data")
def test_every_answer_of_math_train_equals_itself_and_no_near_miss(folder: Path) -> None:
    golds = gold_answers(Path(os.environ["LIT_PRM_DATA"]))
    assert all(all_equivalent([(a, a) for a in golds]))
    nears = near_misses(golds, 0, each=1)
    assert len(nears) == len(golds) == 7500
    assert {kind for kind, _, _ in only_ours(nears)} <= {"unit"}
