"""The data report counts what is there; problems shared with evaluation sets are found, dropped or refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lit_prm.data.batch import Encoded
from lit_prm.data.data_report import DataReport, drop_shared, refuse_shared, shared
from lit_prm.data.formats import Reading, RefusedRow
from lit_prm.data.records import Group, Problem, Rollout


def group(text: str, labels: str = "", *, id: str = "", responses: str = "abcdefgh") -> Group:
    """A problem with one response per letter of ``labels``: + right, - wrong, ? unlabelled."""
    names = {"+": True, "-": False, "?": None}
    rollouts = tuple(Rollout(response=r, correct=names[c]) for r, c in zip(responses, labels, strict=False))
    return Group(problem=Problem(prompt=text, id=id or text), rollouts=rollouts)


GROUPS = [
    group("What is 2+2?", "++", responses="aa"),
    group("what is 2 + 2 ?", "--", responses="xy", id="again"),
    group("Find [asy] x", "+-+-", responses="pqpp"),
]
REFUSED = tuple(RefusedRow(f"data.jsonl:{n}", f"[bad] row {n}; remove it") for n in range(2, 9))
READING = Reading("data.jsonl", "paper rollouts", tuple(GROUPS), 10, REFUSED, "00")


def encoded(prompt: int, response: int, steps: int = 1, *, truncated: bool = False) -> Encoded:
    """A response of so many tokens, in so many steps, to a prompt of so many tokens."""
    step = np.minimum(np.arange(response), steps - 1).astype(np.int32)
    return Encoded(np.zeros(prompt + response, np.int32), prompt, step, 1.0, 0, 0, truncated)


def report(groups: list[Group] = GROUPS) -> DataReport:
    prompts, responses = [3, 3, 4, 4, 5, 5, 5, 5], [1, 1, 2, 3, 4, 5, 6, 7]
    rows = [encoded(p, r, 3 if r == 7 else 1, truncated=r == 7) for p, r in zip(prompts, responses, strict=True)]
    return DataReport.of(groups, rows, reading=READING, steps={}, shared={"math500": [groups[0]], "gsm8k": []})


def test_every_count_is_what_a_person_would_count() -> None:
    facts = report().as_dict()
    quantiles = facts.pop("response_tokens")
    assert facts == {
        "source": "data.jsonl",
        "layout": "paper rollouts",
        "rows": 10,
        "refused": 7,
        "reasons": [f"data.jsonl:{n}: [bad] row {n}; remove it" for n in range(2, 7)],
        "problems": 3,
        "responses": 8,
        "right": 0.5,
        "all_right": 1,
        "all_wrong": 1,
        "duplicate_responses": 3,
        "duplicate_problems": 1,
        "truncated": 1,
        "unlabelled": 0,
        "steps": {},
        "steps_per_response": {"min": 1, "5%": 1, "50%": 1, "95%": 2, "99%": 2, "max": 3},
        "one_step": 7,
        "prompt_tokens": {"min": 3, "5%": 3, "50%": 4, "95%": 5, "99%": 5, "max": 5},
        "shared": {"math500": 1, "gsm8k": 0},
        "error_kinds": {},
        "too_long": 0,
    }
    assert (quantiles["min"], quantiles["50%"], quantiles["max"]) == (1, 3, 7)
    json.dumps(facts)


def test_unlabelled_responses_are_neither_right_nor_wrong() -> None:
    facts = report([group("a", "+?"), group("b", "??"), group("c")])
    assert (facts.right, facts.all_right, facts.all_wrong, facts.responses) == (1.0, 1, 0, 4)


def test_the_table_says_it_in_few_lines_and_takes_brackets_as_text() -> None:
    out = io.StringIO()
    report().show(Console(file=out, width=120))
    said = out.getvalue()
    for fact in (
        "training data: data.jsonl",
        "10 read as paper rollouts, 7 refused",
        "data.jsonl:2: [bad] row 2; remove it",
        "3: 1 all right, 1 all wrong, 1 mixed",
        "8, 50.0% right, 1 truncated",
        "3 responses, 1 problems",
        "min 3, 5% 3, 50% 4",
        "1 with math500",
    ):
        assert fact in said
    assert said.count("\n") < 20


def shared_ids(groups: list[Group], evaluation: dict[str, list[Group]]) -> dict[str, list[str]]:
    return {name: [g.problem.id for g in of_set] for name, of_set in shared(groups, evaluation).items()}


@pytest.mark.parametrize("same", ["WHAT is\n2+2", "What is $2 + 2$?", "'what is: 2+2'"])
def test_spacing_case_and_punctuation_do_not_hide_a_shared_problem(same: str) -> None:
    assert shared_ids(GROUPS, {"eval": [group(same)]}) == {"eval": ["What is 2+2?", "again"]}


def test_other_numbers_and_other_words_are_other_problems() -> None:
    told = "Let x be 5.|Let x be 55.|Let y be 5.|Soit x égal à 5.|Let x be -5.|Let x be 5 5.|Let x be 5.5."
    others = [group(text) for text in told.split("|")]
    for i, one in enumerate(others):
        assert shared_ids([one], {"eval": others[:i] + others[i + 1 :]}) == {"eval": []}


@pytest.mark.parametrize("other", [*(f"5 {sign} 3" for sign in "-*/^_=<>"), "53", "5 3", "5.3"])
def test_operators_and_numbers_are_told_apart(other: str) -> None:
    assert shared_ids([group("Find 5 + 3.")], {"eval": [group(f"Find {other}.")]}) == {"eval": []}


def test_typeset_thousands_and_lists_are_the_same_numbers() -> None:
    assert shared_ids([group("Add 1,000 and 2, 3.")], {"eval": [group("add $1000$ and 2,3")]})["eval"]


def test_the_report_says_who_cut_the_steps_and_what_was_left_out() -> None:
    def said(**more: Any) -> str:
        out = io.StringIO()
        given = {"reading": READING, "steps": {}, "shared": {}, **more}
        DataReport.of(GROUPS, [encoded(3, 4, 2)], **given).show(Console(file=out, width=120))
        return " ".join(out.getvalue().split())

    assert "steps │ of the file │" in said(steps={"of the file": 8})
    assert "steps │ of the file (5), BlankLine (3) │" in said(steps={"of the file": 5, "BlankLine": 3})
    reading = replace(READING, groups=(*GROUPS, group("new", "?+?")))
    assert "unlabelled │ 2 responses, left out │" in said(reading=reading)
    assert "unlabelled" not in said()


def test_the_report_says_what_kinds_of_first_errors_there_are() -> None:
    kinds = [("slip", ""), ("", "misconception"), ("", "slip"), ("", "")]
    rollouts = tuple(
        Rollout(response="ab", correct=i == 3, steps=("a", "b"), error_kinds=of_steps, first_error=(0, 1, 1, -1)[i])
        for i, of_steps in enumerate(kinds)
    )
    out = io.StringIO()
    marked = [Group(problem=Problem(prompt="?", id="1"), rollouts=rollouts)]
    report = DataReport.of(marked, [encoded(3, 4, 2)], reading=READING, steps={}, shared={})
    report.show(Console(file=out, width=120))
    assert report.error_kinds == {"slip": 2, "misconception": 1}
    text = " ".join(out.getvalue().split())
    assert "first errors │ slip in 50.0% of the responses, misconception in 25.0% of the responses │" in text


def test_the_report_warns_where_the_rule_of_steps_finds_none() -> None:
    def said(single: int) -> str:
        out, groups = io.StringIO(), [group(str(i), "+") for i in range(100)]
        rows = [encoded(3, 9, 1 if i < single else 5) for i in range(100)]
        DataReport.of(groups, rows, reading=READING, steps={}, shared={}).show(Console(file=out, width=250))
        return " ".join(out.getvalue().split())

    assert "warning │ 95 of 100 responses are a single step" in said(95)
    assert "name the rule: --data.steps Marked, BlankLine, Newline, Sentence" in said(100)
    assert "warning" not in said(94)
    assert "steps per response │ min 1, 5% 1, 50% 5, 95% 5, 99% 5, max 5" in said(20)


def test_a_chat_prompt_is_compared_by_what_the_user_asks() -> None:
    chat = Problem(
        prompt=({"role": "system", "content": "Think."}, {"role": "user", "content": "What is 2+2?"}), id="chat"
    )
    assert shared_ids(GROUPS, {"eval": [Group(problem=chat, rollouts=())]})["eval"] == ["What is 2+2?", "again"]


NAMES = st.lists(st.sampled_from(["one", "One!", "two", "three", "3"]), max_size=6)


@given(train=NAMES, first=NAMES, second=NAMES)
def test_dropping_leaves_nothing_shared_and_keeps_the_rest_in_order(
    train: list[str], first: list[str], second: list[str]
) -> None:
    groups = [group(text, id=str(i)) for i, text in enumerate(train)]
    evaluation = {"first": [group(t) for t in first], "second": [group(t) for t in second]}
    kept = drop_shared(groups, shared(groups, evaluation))
    found = {i for ids in shared_ids(groups, evaluation).values() for i in ids}
    assert shared_ids(kept, evaluation) == {"first": [], "second": []}
    assert [g.problem.id for g in kept] == [g.problem.id for g in groups if g.problem.id not in found]


def test_shared_problems_are_refused_by_set_count_and_text_with_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "What is [b]the[/b] sum? " + "x" * 100
    train = [group("first"), group(long), group("also")]
    evaluation = {"clean": [group("other")], "math500": [group(long), group("also!")], "gsm8k": [group("Also")]}
    with pytest.raises(ValueError, match="shares problems") as error:
        refuse_shared(shared(train, evaluation))
    said = str(error.value)
    assert "2 with math500, 1 with gsm8k" in said
    assert "clean" not in said
    assert repr(long[:60]) in said
    assert "data.shared_problems: drop" in said
    refuse_shared(shared(train, evaluation), allow=True)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "2 with math500" in line
    assert "[b]the[/b]" in line


def test_nothing_shared_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    refuse_shared(shared(GROUPS, {"eval": [group("other")]}))
    refuse_shared(shared(GROUPS, {}))
    refuse_shared(shared([], {"eval": GROUPS}), allow=True)
    assert capsys.readouterr() == ("", "")
