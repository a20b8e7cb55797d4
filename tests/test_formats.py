"""What is written is read again; every layout in use becomes the groups a person would make; bad rows say where."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_prm.data.formats import Reading, read_groups, write_groups
from lit_prm.data.records import Group, Problem, Rollout

USER = {"role": "user", "content": "1+1?"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def saved(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(folder: Path, *rows: Any) -> Reading:
    return read_groups(saved(folder, list(rows)))


def facts(group: Group) -> list[tuple[str, bool | None]]:
    return [(r.response, r.correct) for r in group.rollouts]


# --- laws ----------------------------------------------------------------------------------------

WORDS = st.text(min_size=1, max_size=12).filter(str.strip)
PLAIN = WORDS.filter(lambda s: "\\boxed" not in s and "####" not in s)  # a gold answer, no solution
PROMPTS = st.one_of(
    WORDS,
    st.lists(st.fixed_dictionaries({"role": WORDS, "content": WORDS}), min_size=1, max_size=3).map(tuple),
)


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    steps = draw(st.none() | st.lists(WORDS, min_size=1, max_size=3).map(tuple))
    return Rollout(
        response=draw(WORDS) if steps is None else "".join(steps),
        steps=steps,
        correct=draw(st.sampled_from([True, False, None])),
        answer=draw(st.none() | st.text(max_size=5)),
        first_error=None if steps is None else draw(st.none() | st.integers(-1, len(steps) - 1)),
        generator=draw(st.none() | WORDS),
    )


@st.composite
def grouped(draw: st.DrawFn) -> list[Group]:
    ids = draw(st.lists(WORDS, min_size=1, max_size=4, unique=True))
    return [
        Group(
            problem=Problem(
                prompt=draw(PROMPTS),
                id=i,
                answer=draw(st.none() | PLAIN),
                subject=draw(st.none() | st.text(max_size=5)),
                level=draw(st.none() | st.integers(0, 9)),
            ),
            rollouts=tuple(draw(st.lists(rollouts(), max_size=3))),
        )
        for i in ids
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=grouped(), name=st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_what_is_written_is_read_again(tmp_path: Path, groups: list[Group], name: str) -> None:
    write_groups(tmp_path / name, groups)
    reading = read_groups(str(tmp_path / name))
    assert list(reading.groups) == groups
    assert (reading.rows, reading.refused, reading.layout) == (len(groups), (), "paper rollouts")


def test_equal_groups_give_equal_bytes_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    groups = [Group(problem=Problem(prompt="é", id="1"), rollouts=(Rollout(response="x", correct=True),))]
    for name in ("a.jsonl", "b.jsonl", "a.jsonl.gz", "b.jsonl.gz"):
        write_groups(tmp_path / name, iter(groups))
    plain = (tmp_path / "a.jsonl").read_bytes()
    assert plain == (tmp_path / "b.jsonl").read_bytes()
    packed = (tmp_path / "a.jsonl.gz").read_bytes()
    assert packed == (tmp_path / "b.jsonl.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # the time of writing
    assert gzip.decompress(packed) == plain
    assert len(list(tmp_path.iterdir())) == 4


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old")

    def broken() -> Iterator[Group]:
        yield Group(problem=Problem(prompt="p", id="1"), rollouts=())
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_groups(path, broken())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_columns_that_say_nothing_are_not_written(tmp_path: Path) -> None:
    group = Group(problem=Problem(prompt="p", id="1"), rollouts=(Rollout(response="x"),))
    write_groups(tmp_path / "a.jsonl", [group])
    row = {"prompt": "p", "unique_id": "1", "completions": ["x"], "correctness": [None]}
    assert json.loads((tmp_path / "a.jsonl").read_text()) == row


def test_a_sample_may_end_at_once_but_not_rightly(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ended = (Rollout(response="", correct=False, steps=(), first_error=0), Rollout(response=""))  # the last: not judged
    groups = [Group(problem=Problem(prompt="p", id="7"), rollouts=(*ended, Rollout(response="x", correct=True)))]
    write_groups(path, groups)
    assert list(read_groups(str(path)).groups) == groups
    empty = Group(problem=Problem(prompt="p", id="7"), rollouts=(Rollout(response="", correct=True),))
    with pytest.raises(ValueError, match="problem 7: response is empty; leave it out"):
        write_groups(path, [empty])


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, [{"question": "q", "answer": "#### 1"}]))
    assert read_groups(str(path)).digest == hashlib.sha256(path.read_bytes()).hexdigest()


# --- layouts -------------------------------------------------------------------------------------


def test_paper_rollouts(tmp_path: Path) -> None:
    row = {
        "prompt": "1+1?", "dataset": "MATH", "reference": "so \\boxed{\\frac{1}{2}}.", "subject": "Algebra",
        "level": "Level 3", "unique_id": "m/1", "completions": ["a\n\nb", "cd", "e", "f"],
        "correctness": [True, False, 1, 0],
        "steps": [["a\n\n", "b"], ["c", "d"], ["e"], None], "first_errors": [1, 0, -1, None],
        "ambiguous": [False, False, True, False], "generators": ["g1", "g2", "g3", None],
        "answers": ["2", None, "3", "4"], "error_kinds": [[None, "slip"], None, [""], None],
    }  # fmt: skip
    reading = read(tmp_path, row)
    asked = Problem(prompt="1+1?", id="m/1", answer="\\frac{1}{2}", subject="Algebra", level=3)
    assert reading.layout == "paper rollouts"
    assert reading.groups == (
        Group(
            problem=asked,
            rollouts=(
                Rollout(
                    response="a\n\nb",
                    correct=True,
                    answer="2",
                    steps=("a\n\n", "b"),
                    first_error=1,
                    generator="g1",
                    error_kinds=("", "slip"),
                ),
                Rollout(response="cd", correct=False, steps=("c", "d"), first_error=0, generator="g2"),
                Rollout(response="f", correct=False, answer="4"),
            ),
        ),
    )


def test_unpaired_rows_of_one_prompt_are_one_group_with_all_its_samples(tmp_path: Path) -> None:
    rows = [("q1", "a", True), ("q2", "b", False), ("q1", "a", True), ("q1", "c", 0)]
    reading = read(tmp_path, *({"prompt": p, "completion": c, "label": v} for p, c, v in rows))
    assert reading.layout == "TRL unpaired"
    assert [g.problem.prompt for g in reading.groups] == ["q1", "q2"]
    assert [facts(g) for g in reading.groups] == [[("a", True), ("a", True), ("c", False)], [("b", False)]]
    assert reading.rows == 4


def test_samples_need_no_label_and_may_be_empty(tmp_path: Path) -> None:
    reading = read(tmp_path, {"prompt": "q1", "completions": ["a", ""]}, {"prompt": "q1", "completions": []})
    assert reading.layout == "samples"
    assert [facts(g) for g in reading.groups] == [[("a", None), ("", None)], []]
    rows = [{"prompt": p, "completion": c} for p, c in (("q1", "a"), ("q2", [said("b")]), ("q1", ""))]
    reading = read(tmp_path, *rows)
    assert reading.layout == "one sample a row"
    assert [facts(g) for g in reading.groups] == [[("a", None), ("", None)], [("b", None)]]


def test_labels_of_later_rows_are_read_and_a_null_column_labels_nothing(tmp_path: Path) -> None:
    reading = read(tmp_path, {"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "b", "label": True})
    assert facts(reading.groups[0]) == [("a", None), ("b", True)]
    reading = read(tmp_path, {"prompt": "q", "completions": ["a", ""], "correctness": None})
    assert reading.layout == "paper rollouts"
    assert facts(reading.groups[0]) == [("a", None), ("", None)]
    with pytest.raises(ValueError, match=":2: column 'correctness' is missing"):
        read(tmp_path, ROLLOUT, {"prompt": "q", "completions": ["a"]})


def test_unpaired_messages(tmp_path: Path) -> None:
    row = {"prompt": [USER], "completion": [said("2")], "label": True, "reference": "2", "id": 5}
    (group,) = read(tmp_path, row).groups
    assert group == Group(
        problem=Problem(prompt=(USER,), id="5", answer="2"), rollouts=(Rollout(response="2", correct=True),)
    )


def test_pairs_stay_the_pairs_of_the_file(tmp_path: Path) -> None:
    """A response that one row chooses and another rejects is not compared with itself, nor with a third."""
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    reading = read(tmp_path, *({"prompt": "q", "chosen": c, "rejected": r} for c, r in pairs))
    assert reading.layout == "TRL pairs"
    assert [facts(group) for group in reading.groups] == [[(c, True), (r, False)] for c, r in pairs]
    assert [group.problem.id for group in reading.groups] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": [USER], "chosen": [said("2")], "rejected": [said("3")]}, (USER,)),
        ({"prompt": "1+1?", "chosen": [said("2")], "rejected": [said("3")]}, "1+1?"),
        ({"prompt": "1+1?", "chosen": [USER, said("2")], "rejected": [USER, said("3")]}, "1+1?"),
        ({"chosen": [USER, said("2")], "rejected": [USER, said("3")]}, (USER,)),
        (
            {"chosen": [USER, said("?"), USER, said("2")], "rejected": [USER, said("?"), USER, said("3")]},
            (USER, said("?"), USER),
        ),
    ],
    ids=["messages", "text prompt", "prompt repeated", "implicit prompt", "implicit turns"],
)
def test_pairs_of_messages(tmp_path: Path, row: dict[str, Any], prompt: object) -> None:
    (group,) = read(tmp_path, row).groups
    assert group.problem.prompt == prompt
    assert facts(group) == [("2", True), ("3", False)]


def test_stepwise_rows_tile_and_name_the_first_wrong_step(tmp_path: Path) -> None:
    rows = [([True, False, False], 1), ([True, True, True], -1), ([False, True, True], 0)]
    reading = read(tmp_path, *({"prompt": "q", "completions": ["a", "b", "c"], "labels": labels} for labels, _ in rows))
    assert reading.layout == "stepwise"
    (group,) = reading.groups
    assert [r.steps for r in group.rollouts] == [("a\n", "b\n", "c")] * 3
    assert [r.first_error for r in group.rollouts] == [first for _, first in rows]
    assert facts(group) == [("a\nb\nc", False), ("a\nb\nc", True), ("a\nb\nc", False)]


def test_ipvrm_scores_the_last_message(tmp_path: Path) -> None:
    talk = [USER, said("hm"), {"role": "user", "content": "go on"}]
    reading = read(tmp_path, *({"conversation": [*talk, said(a)], "label": v} for a, v in [("2", True), ("3", False)]))
    assert reading.layout == "IPVRM"
    (group,) = reading.groups
    assert group.problem.prompt == tuple(talk)
    assert facts(group) == [("2", True), ("3", False)]


@pytest.mark.parametrize(
    ("level", "expected"), [(3, 3), ("Level 3", 3), ("4", 4), ("Level ?", None), (None, None), (2.0, 2)]
)
def test_math_problems_have_no_rollouts(tmp_path: Path, level: object, expected: int | None) -> None:
    row = {"problem": "p", "solution": "\\boxed{5}", "type": "Algebra", "level": level, "unique_id": "t/1.json"}
    asked = Problem(prompt="p", id="t/1.json", answer="5", subject="Algebra", level=expected)
    for extra in ({}, {"answer": "5"}, {"answer": 5}):
        reading = read(tmp_path, row | extra)
        assert reading.groups == (Group(problem=asked, rollouts=()),)
        assert reading.layout == "MATH"


def test_an_empty_gold_answer_is_unknown(tmp_path: Path) -> None:
    (group,) = read(tmp_path, {"problem": "p", "solution": "\\boxed{}", "answer": ""}).groups
    assert group.problem.answer is None


def test_gsm8k_answers_stand_behind_the_hashes(tmp_path: Path) -> None:
    reading = read(tmp_path, {"question": "q", "answer": "1+1=<<1+1=2>>2\n#### 1,200"})
    assert reading.groups == (Group(problem=Problem(prompt="q", id="0", answer="1200"), rollouts=()),)
    assert reading.layout == "GSM8K"


def test_processbench_paragraphs_tile(tmp_path: Path) -> None:
    row = {
        "id": "math-0",
        "generator": "g",
        "problem": "p",
        "steps": ["a", "b\nc"],
        "final_answer_correct": True,
        "label": 1,
    }
    rows = [row, row | {"id": "math-1", "label": -1}]
    reading = read(tmp_path, *rows)
    assert reading.layout == "ProcessBench"
    assert [g.problem.id for g in reading.groups] == ["math-0", "math-1"]  # one prompt, still two rows
    assert reading.groups[0].rollouts == (
        Rollout(response="a\n\nb\nc", correct=True, steps=("a\n\n", "b\nc"), first_error=1, generator="g"),
    )
    assert reading.groups[1].rollouts[0].first_error == -1


def test_ids_are_stable_and_never_shared(tmp_path: Path) -> None:
    names = ["x", "x", "x-2", None, "3"]
    rows = [{"problem": f"p{i}", "answer": "1"} | ({"id": n} if n else {}) for i, n in enumerate(names)]
    ids = [g.problem.id for g in read(tmp_path, *rows).groups]
    assert ids == ["x", "x-2", "x-2-2", "3", "3-2"]


# --- sources -------------------------------------------------------------------------------------

ROWS = [{"question": f"q{i} \u2028 é", "answer": f"#### {i}"} for i in range(3)]


def parquet(rows: list[Any]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def test_every_container_holds_the_same_groups(tmp_path: Path) -> None:
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
    array = json.dumps(ROWS, indent=1).encode()
    files = {
        "a.jsonl": b"\xef\xbb\xbf" + lines, "a.jsonl.gz": gzip.compress(lines), "a.json": array,
        "a.json.gz": gzip.compress(array), "a.parquet": parquet(ROWS),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    readings = [read_groups(str(tmp_path / name)) for name in files]
    assert [[g.problem.prompt for g in r.groups] for r in readings] == [[row["question"] for row in ROWS]] * 5
    assert len({r.digest for r in readings}) == 5


def test_parquet_keeps_messages_and_lists(tmp_path: Path) -> None:
    rows = [{"prompt": [USER], "completions": ["a", "b"], "correctness": [True, None], "reference": None}]
    (tmp_path / "a.parquet").write_bytes(parquet(rows))
    (group,) = read_groups(str(tmp_path / "a.parquet")).groups
    assert group.problem == Problem(prompt=(USER,), id="0")
    assert facts(group) == [("a", True), ("b", None)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str]]:
    asked: list[tuple[str, str | None, str]] = []

    class Rows(list[Any]):
        _fingerprint = "f1"

    def load_dataset(name: str, config: str | None, *, split: str) -> Rows:
        asked.append((name, config, split))
        if name == "no/where":
            raise FileNotFoundError("Dataset no/where does not exist")
        return Rows(ROWS)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_a_name_that_is_no_file_is_a_hub_data_set(hub: list[tuple[str, str | None, str]]) -> None:
    for name in ("openai/gsm8k", "some.one/data-v1.5", "openai/gsm8k:test", "openai/gsm8k:main:test[:10%]"):
        reading = read_groups(name)
        assert len(reading.groups) == 3
        assert reading.digest == hashlib.sha256(f"{name} f1".encode()).hexdigest()
    assert hub == [
        ("openai/gsm8k", None, "train"),
        ("some.one/data-v1.5", None, "train"),
        ("openai/gsm8k", None, "test"),
        ("openai/gsm8k", "main", "test[:10%]"),
    ]
    with pytest.raises(ValueError, match=r"no/where: neither a file nor loaded from the hub \(Dataset .*data.root"):
        read_groups("no/where")


@pytest.mark.parametrize("name", ["data/missing.jsonl", "missing", "/nowhere/at/all", "data/missing.jsonl.gz", "a/b/c"])
def test_a_missing_file_is_named_with_the_remedy(name: str, hub: object) -> None:
    remedy = r"correct the path \(in a training configuration it is relative to data.root"
    with pytest.raises(ValueError, match=f"^{name}: no such file.*{remedy}"):
        read_groups(name)
    assert hub == []


def test_folders_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"is a folder with no file with \.jsonl"):
        read_groups(str(tmp_path))
    with pytest.raises(ValueError, match=r"a.xlsx: the suffix is none of .jsonl, .*convert"):
        read_groups(str(tmp_path / "a.xlsx"))
    with pytest.raises(ValueError, match=r"a.csv: groups are written as .jsonl"):
        write_groups(tmp_path / "a.csv", [])


# --- refusals ------------------------------------------------------------------------------------

ROLLOUT = {"prompt": "q", "completions": ["a", "b"], "correctness": [True, False]}
UNPAIRED = {"prompt": "q", "completion": "a", "label": True}
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
STEPS = {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]}
MATH = {"problem": "p", "answer": "1"}
BENCH = {"problem": "p", "steps": ["a", "b"], "label": 1, "final_answer_correct": False}
TALK = {"conversation": [USER, said("2")], "label": True}
GSM = {"question": "q", "answer": "#### 1"}

BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (ROLLOUT, {"correctness": [True]}, "correctness has 1 values for 2 completions; give one for each"),
    (ROLLOUT, {"correctness": ["yes", True]}, r"correctness\[0\] is 'yes', not true or false; give"),
    (ROLLOUT, {"correctness": "TF"}, r"correctness is 'TF', not a list; write it as \[...\]"),
    (ROLLOUT, {"completions": "ab"}, "completions is 'ab', not a list"),
    (ROLLOUT, {"completions": ["", "b"]}, r"completions\[0\] is empty; leave it out"),
    (ROLLOUT, {"completions": ["a", " \n"]}, r"completions\[1\] is empty; leave it out"),
    (ROLLOUT, {"correctness": [True, False, True]}, "correctness has 3 values for 2 completions; give one for each"),
    (ROLLOUT, {"completions": ["a", 3]}, r"completions\[1\] is 3, not a list"),
    (
        ROLLOUT,
        {"steps": [["a"], ["b", "c"]]},
        r"steps\[1\] do not join to the response: behind 'b' the steps have 'c' ",
    ),
    (ROLLOUT, {"steps": [["a"], [1]]}, r"steps\[1\]\[0\] is 1, not a string"),
    (ROLLOUT, {"steps": [["a"], ["b"]], "step_labels": [[1], []]}, r"step_labels\[1\] has 0 values for 1 steps"),
    (ROLLOUT, {"first_errors": [None, 5]}, r"first_errors\[1\] is 5, and this response has no steps"),
    (ROLLOUT, {"prompt": ""}, "prompt is empty"),
    (ROLLOUT, {"prompt": 7}, "prompt is 7, not a list"),
    (ROLLOUT, {"prompt": [{"role": "user"}]}, "prompt has no content"),
    (ROLLOUT, {"prompt": ["hi"]}, r"prompt\[0\] is 'hi', not a chat message"),
    (ROLLOUT, {"generators": ["g"]}, "generators has 1 values for 2 completions"),
    (ROLLOUT, {"steps": ["a", "b"]}, r"steps\[0\] is 'a', not a list"),
    (
        ROLLOUT,
        {"steps": [["a"], ["b"]], "first_errors": [1, 0]},
        r"first_errors\[0\] is 1, not the index of one of 1 steps",
    ),
    (
        ROLLOUT,
        {"steps": [["a"], ["b"]], "completions": ["a", "b"], "error_kinds": [["slip", ""], [""]]},
        r"error_kinds\[0\] has 2 values for 1 steps; give one for each step",
    ),
    (ROLLOUT, {"steps": [["a"], ["b"]], "first_errors": [-2, 0]}, r"first_errors\[0\] is -2, not the index"),
    (ROLLOUT, {"completions": ["a", "well \ud83d"]}, r"completions\[1\] has half a character '\\ud83d' at 5, behind"),
    (ROLLOUT, {"prompt": "\ude00"}, "prompt has half a character .*; write the text again"),
    (ROLLOUT, {"unique_id": "\ude00"}, "id has half a character"),
    (ROLLOUT, {"subject": "\ude00"}, "subject has half a character"),
    (TALK, {"conversation": [USER, said("\ud83d")]}, r"conversation\[1\].content has half a character"),
    (ROLLOUT, {"level": "hard"}, "level is 'hard', not a number"),
    (ROLLOUT, {"reference": "so \\boxed{3"}, r"reference is .*, not a solution with its answer in \\boxed"),
    (ROLLOUT, {"reference": {"3": 3}}, "reference is {'3': 3}, not a string"),
    (ROLLOUT, {"chat_template_kwargs": "x"}, "chat_template_kwargs is 'x', not an object"),
    (UNPAIRED, {"label": 0.5}, "label is 0.5, not true or false"),
    (UNPAIRED, {"label": "yes"}, "label is 'yes', not true or false"),
    (UNPAIRED, {"completion": ""}, "completion is empty"),
    (UNPAIRED, {"completion": [said("")]}, "completion is empty"),
    (
        UNPAIRED,
        {"completion": [said("a"), USER, said("b")]},
        r"completion has messages of \['assistant', 'user', 'assistant'\]",
    ),
    (PAIR, {"rejected": "a"}, "chosen and rejected are the same text 'a'"),
    (PAIR, {"prompt": None}, "chosen is text and there is no prompt column"),
    (
        PAIR,
        {"prompt": None, "chosen": [said("a")], "rejected": [said("b")]},
        "chosen and rejected share no first message",
    ),
    (STEPS, {"labels": [True]}, "1 labels for 2 steps"),
    (STEPS, {"completions": [], "labels": []}, "0 labels for 0 steps"),
    (BENCH, {"label": 2}, "label is 2, not the index of one of 2 steps or -1; count steps from 0"),
    (BENCH, {"label": True}, "label is True, not the index"),
    (BENCH, {"label": 0.5}, "label is 0.5, not the index"),
    (BENCH, {"steps": ["", " "]}, "steps hold no text"),
    (MATH, {"answer": None, "solution": "it is 3"}, r"the solution has no \\boxed"),
    (MATH, {"problem": " "}, "problem is empty"),
    (TALK, {"conversation": [USER]}, "conversation has no content"),
    (TALK, {"conversation": [USER, USER]}, r"conversation has messages of \['user'\] after the prompt"),
    (GSM, {"answer": "it is 1"}, r"answer's end is 'it is 1', not `#### 12`"),
    (GSM, {"answer": "####  "}, "answer after #### is empty"),
]


@pytest.mark.parametrize(
    ("good", "change", "reason"), BAD, ids=[f"{next(iter(c))}-{i}" for i, (_, c, _) in enumerate(BAD)]
)
def test_a_bad_row_is_refused_by_line_and_the_rest_is_read(
    tmp_path: Path, good: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    other = good | {next(k for k in ("prompt", "problem", "question", "conversation") if k in good): "other"}
    last = good if "conversation" in good else other
    path = saved(tmp_path, [good, good | change, last])
    with pytest.raises(ValueError, match=f"^{path}:2: {reason}"):
        read_groups(path)
    reading = read_groups(path, on_bad="skip")
    (refused,) = reading.refused
    assert refused.place == f"{path}:2"
    assert reading.rows == 3
    assert sum(len(g.rollouts) for g in reading.groups) == 2 * len(read(tmp_path, good).groups[0].rollouts)


def test_a_cut_last_line_is_called_cut_and_a_broken_one_before_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    for cut in (whole[:-5], whole[: whole.rindex("é".encode()) + 1]):  # inside a string, inside a letter
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=f"^{path}:3: the line is no JSON .*the file looks cut"):
            read_groups(str(path))
        assert len(read_groups(str(path), on_bad="skip").groups) == 2
    path.write_bytes(whole + b"{nonsense}\n")  # complete, so not cut
    with pytest.raises(ValueError, match=f"^{path}:4: the line is no JSON .*correct or remove the line"):
        read_groups(str(path))
    path.write_bytes(b"{nonsense}\n\n[1]\n" + whole)
    with pytest.raises(ValueError, match=f"^{path}:1: the line is no JSON .*correct or remove the line"):
        read_groups(str(path))
    reading = read_groups(str(path), on_bad="skip")
    assert [r.place for r in reading.refused] == [f"{path}:1", f"{path}:3"]  # blank lines count as lines
    assert "the row is a list" in reading.refused[1].reason
    assert [g.problem.id for g in reading.groups] == ["2", "3", "4"]  # rows keep their number


def test_a_cut_container_is_called_cut(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    whole = {"a.jsonl.gz": gzip.compress(lines), "a.json": json.dumps(ROWS).encode(), "a.parquet": parquet(ROWS)}
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data[:-9])
        with pytest.raises(ValueError, match=f"^{tmp_path / name}: .*looks cut"):
            read_groups(str(tmp_path / name), on_bad="skip")
    (tmp_path / "a.json").write_bytes(lines)
    with pytest.raises(ValueError, match=r"Extra data.*call it .jsonl"):
        read_groups(str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text('{"data": []}')
    with pytest.raises(ValueError, match="holds a dict, not a list of rows"):
        read_groups(str(tmp_path / "a.json"))


def test_unknown_columns_are_refused_with_the_nearest_layout(tmp_path: Path) -> None:
    for row, near in [
        ({"prompt": "q", "responses": ["a"], "correctness": [True]}, "paper test set .*, which also needs response"),
        (
            {"prompt": "q", "chosen_response": "a", "rejected_response": "b"},
            r"TRL pairs \(chosen, rejected\), which also",
        ),
        (
            {"id": 1, "problem": "q", "steps": ["a"], "label": 0},
            "ProcessBench .*, which also needs final_answer_correct",
        ),
    ]:
        path = saved(tmp_path, [row])
        with pytest.raises(ValueError, match=rf"^{path}:1: columns \[.*\] fit no known layout; the nearest is {near}"):
            read_groups(path)


def test_a_source_without_a_usable_row_is_refused_even_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no row can be used, it is empty"):
        read_groups(saved(tmp_path, []), on_bad="skip")
    with pytest.raises(ValueError, match=r"no row can be used; the first of 2: .*:1: columns"):
        read_groups(saved(tmp_path, [{"foo": 1}, {"bar": 1}]), on_bad="skip")


# --- real data ------------------------------------------------------------------------------------

COUNTS = {  # file: groups, rollouts
    "math500": (500, 0),
    "math_train": (7500, 0),
    "math_test": (5000, 0),
    "gsm8k_train": (7473, 0),
    "gsm8k_test": (1319, 0),
    "math500_candidates_n10": (500, 4785),  # 215 ambiguous ones are left out
    "ultrainteract_math_rollout_65x8": (65, 520),
    "gsm8k_responses_train": (944, 7552),
    "gsm8k_responses_heldout": (375, 3000),
    "processbench_gsm8k": (400, 400),
    "processbench_math": (1000, 1000),
    "processbench_olympiadbench": (1000, 1000),
    "processbench_omnimath": (1000, 1000),
}


@pytest.mark.skipif("LIT_PRM_DATA" not in os.environ, reason="set LIT_PRM_DATA to the folder of real data")
@pytest.mark.parametrize("name", COUNTS)
def test_real_files_read_whole(name: str) -> None:
    reading = read_groups(str(Path(os.environ["LIT_PRM_DATA"]) / f"{name}.jsonl.gz"))
    assert (len(reading.groups), sum(len(g.rollouts) for g in reading.groups)) == COUNTS[name]
    assert len({g.problem.id for g in reading.groups}) == len(reading.groups)
    unknown = sum(g.problem.answer is None for g in reading.groups)
    expected = len(reading.groups) if name.startswith("processbench") else {"math_train": 2}.get(name, 0)
    assert unknown == expected  # two solutions of MATH end in an empty box
