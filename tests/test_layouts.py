"""Rows as users and benchmarks hold them become the problems and responses that a person would read out of them."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lit_prm.data.formats import Reading, group_row, read_groups
from lit_prm.data.records import Group, Problem, Rollout

Q = "Ann has 3 pens and buys 4 more. How many pens does she have?"
ASKED = [{"role": "user", "content": Q}]


def read(folder: Path, *rows: Any) -> Reading:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_groups(str(path))


def known(value: object) -> dict[str, Any]:
    """The fields of a record that say something."""
    return {name: field for name, field in asdict(value).items() if field is not None}  # type: ignore[call-overload]


TURN = {"role": "assistant", "content": "It is 7."}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 3}}}]}
TOOLS = [{"type": "function", "function": {"name": "add"}}]

# name of the layout, row, problem without its id, responses
ROWS: list[tuple[str, dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = [
    ("problems", {"problem": Q}, {"prompt": Q}, []),
    ("prompts", {"prompt": Q, "source": "web"}, {"prompt": Q}, []),
    ("questions", {"question": Q}, {"prompt": Q}, []),
    ("MATH", {"problem": Q, "answer": None}, {"prompt": Q}, []),
    ("TRL unpaired", {"prompt": Q, "completion": "7.", "label": "True"}, {"prompt": Q}, [
        {"response": "7.", "correct": True}]),
    ("TRL unpaired", {"prompt": Q, "completion": "7.", "label": None}, {"prompt": Q}, [{"response": "7."}]),
    ("TRL unpaired", {"prompt": json.dumps(ASKED), "completion": "7.", "label": 1}, {"prompt": tuple(ASKED)}, [
        {"response": "7.", "correct": True}]),
    ("TRL unpaired", {"prompt": Q, "completion": "7.", "label": True, "reference": math.nan}, {"prompt": Q}, [
        {"response": "7.", "correct": True}]),
    ("TRL unpaired", {"prompt": ASKED, "completion": [TURN | {"reasoning_content": "3 and 4."}], "label": True},
        {"prompt": tuple(ASKED)}, [
        {"response": "It is 7.", "correct": True, "message": TURN | {"reasoning_content": "3 and 4."}}]),
    ("TRL pairs", {"prompt": ASKED, "chosen": [CALL], "rejected": [TURN], "tools": TOOLS,
        "chat_template_kwargs": {"enable_thinking": False}},
        {"prompt": tuple(ASKED), "options": {"tools": TOOLS, "enable_thinking": False}}, [
        {"response": "", "correct": True, "message": CALL}, {"response": "It is 7.", "correct": False}]),
    ("labelled messages", {"messages": [*ASKED, TURN], "label": False}, {"prompt": tuple(ASKED)}, [
        {"response": "It is 7.", "correct": False}]),
    ("messages", {"messages": [*ASKED, TURN]}, {"prompt": tuple(ASKED)}, [{"response": "It is 7."}]),
    ("messages", {"messages": ASKED}, {"prompt": tuple(ASKED)}, []),
    ("ShareGPT pairs", {"conversations": [{"from": "human", "value": Q}], "chosen": {"from": "gpt", "value": "7."},
        "rejected": {"from": "gpt", "value": "8."}}, {"prompt": tuple(ASKED)}, [
        {"response": "7.", "correct": True}, {"response": "8.", "correct": False}]),
    ("ShareGPT KTO", {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": "7."}],
        "kto_tag": True}, {"prompt": tuple(ASKED)}, [{"response": "7.", "correct": True}]),
    ("paper rollouts", {"prompt": Q, "completions": ["It is\n\n7.", "8."], "correctness": [True, False],
        "answers": [7, 8.5], "steps": [["It is", "7. "], None], "first_errors": [-1, None],
        "step_labels": [[1, 1], None]}, {"prompt": Q}, [
        {"response": "It is\n\n7.", "correct": True, "answer": "7", "steps": ("It is\n\n", "7."), "first_error": -1,
         "step_labels": (1.0, 1.0)}, {"response": "8.", "correct": False, "answer": "8.5"}]),
    ("stepwise", {"prompt": Q, "completions": ["a", "", "b"], "labels": [True, True, False]}, {"prompt": Q}, [
        {"response": "a\n\nb", "correct": False, "steps": ("a\n\n", "", "b"), "first_error": 2,
         "step_labels": (1.0, 1.0, 0.0)}]),
    ("ProcessBench", {"problem": Q, "steps": ["3+1=4", "", "3*4=12", "So 12."], "label": 2.0,
        "final_answer_correct": False}, {"prompt": Q}, [{"response": "3+1=4\n\n\n\n3*4=12\n\nSo 12.", "correct": False,
        "steps": ("3+1=4\n\n\n\n", "", "3*4=12\n\n", "So 12."), "first_error": 2}]),
    ("PRMBench", {"modified_question": Q, "modified_process": ["1. a", "2. b", "3. c"], "error_steps": [3, 2],
        "classification": "circular", "original_question": "?", "original_process": ["x"], "modified_steps": [1, 2, 3]},
        {"prompt": Q}, [{"response": "1. a\n\n2. b\n\n3. c", "steps": ("1. a\n\n", "2. b\n\n", "3. c"),
        "first_error": 1, "step_labels": (1.0, 0.0, 0.0), "error_kinds": ("", "circular", "circular")}]),
    ("PRMBench", {"modified_question": Q, "modified_process": ["1. a"], "error_steps": []}, {"prompt": Q}, [
        {"response": "1. a", "steps": ("1. a",), "first_error": -1, "step_labels": (1.0,)}]),
    ("MR-Ben", {"Question": Q, "Options": "A: 7 \nB: 8", "Subject": "maths", "Ground_Truth_Answer": "A",
        "Model_Solution_Steps": ["Step 1: 3+4=8.", "Solution: B"], "Model_Solution_Correctness": "incorrect",
        "Model_Solution_First_Error_Step": "1", "Sampled_Model": "m"},
        {"prompt": f"{Q}\nA: 7 \nB: 8", "answer": "A", "subject": "maths"}, [
        {"response": "Step 1: 3+4=8.\n\nSolution: B", "correct": False,
         "steps": ("Step 1: 3+4=8.\n\n", "Solution: B"), "first_error": 0, "generator": "m"}]),
    ("MR-Ben", {"Question": Q, "Model_Solution_Steps": ["a"], "Model_Solution_Correctness": "correct",
        "Model_Solution_First_Error_Step": "N/A"}, {"prompt": Q}, [
        {"response": "a", "correct": True, "steps": ("a",), "first_error": -1}]),
    ("MR-GSM8K", {"question": Q, "ground_truth_answer": 7, "model_output_steps": ["a", "b"],
        "model_output_solution_correctness": "wrong", "model_output_solution_first_error_step": 2,
        "question_type": "POT"}, {"prompt": Q, "answer": "7", "subject": "POT"}, [
        {"response": "a\n\nb", "correct": False, "steps": ("a\n\n", "b"), "first_error": 1}]),
    ("BIG-Bench-Mistake", {"input": Q, "steps": ["a", "b"], "target": "7", "answer": "8", "mistake_index": 0},
        {"prompt": Q, "answer": "7"}, [{"response": "a\n\nb", "correct": False, "answer": "8", "steps": ("a\n\n", "b"),
        "first_error": 0}]),
    ("BIG-Bench-Mistake", {"input": Q, "steps": ["a"], "target": "7", "answer": "7", "mistake_index": None},
        {"prompt": Q, "answer": "7"}, [{"response": "a", "correct": True, "answer": "7", "steps": ("a",),
        "first_error": -1}]),
    ("Math-Shepherd", {"input": f"{Q} Step 1: 3+4=7 ки\nStep 2: The answer is: 8 ки", "task": "GSM8K",
        "label": f"{Q} Step 1: 3+4=7 +\nStep 2: The answer is: 8 -"}, {"prompt": Q, "subject": "GSM8K"}, [
        {"response": "Step 1: 3+4=7\nStep 2: The answer is: 8", "correct": False,
         "steps": ("Step 1: 3+4=7\n", "Step 2: The answer is: 8"), "first_error": 1, "step_labels": (1.0, 0.0)}]),
    ("RLHFlow test set", {"prompt": Q, "answers": ["Step 1: 3+4=7 ки\nStep 2: So 7 ки", "8."], "label": [1, 0]},
        {"prompt": Q}, [{"response": "Step 1: 3+4=7\nStep 2: So 7", "correct": True,
        "steps": ("Step 1: 3+4=7\n", "Step 2: So 7")}, {"response": "8.", "correct": False}]),
    ("paper test set", {"idx": 0, "prompt": Q, "response": "7.", "extracted_output": "7", "correctness": True,
        "reference": "7"}, {"prompt": Q, "answer": "7"}, [{"response": "7.", "correct": True, "answer": "7"}]),
    ("RewardBench", {"prompt": Q, "chosen": "7.", "rejected": "8.", "chosen_model": "human", "rejected_model": "m",
        "subset": "math-prm", "id": 5}, {"prompt": Q, "subject": "math-prm"}, [
        {"response": "7.", "correct": True, "generator": "human"},
        {"response": "8.", "correct": False, "generator": "m"}]),
    ("OlympiadBench", {"question": Q, "answer": ["7"], "answer_type": "Numerical", "solution": ["x"], "error": None,
        "subfield": "Algebra"}, {"prompt": Q, "answer": "7", "subject": "Algebra"}, []),
    ("OlympiadBench", {"question": Q, "answer": ["7", "$8$"], "answer_type": "Numerical"},
        {"prompt": Q, "answer": "7, $8$"}, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "row", "problem", "responses"), ROWS, ids=[f"{row[0]}-{i}" for i, row in enumerate(ROWS)]
)
def test_a_row_is_read_as_a_person_would(
    tmp_path: Path, layout: str, row: dict[str, Any], problem: dict[str, Any], responses: list[dict[str, Any]]
) -> None:
    reading = read(tmp_path, row)
    (group,) = reading.groups
    assert reading.layout == layout
    assert known(group.problem) == {"id": group.problem.id, **problem}
    assert [known(rollout) for rollout in group.rollouts] == responses
    if responses:  # what is written is read again
        assert read(tmp_path, group_row(group)).groups == (group,)


def test_every_layout_of_the_docs_exists_and_every_layout_is_in_the_docs() -> None:
    from lit_prm.data.formats.layouts import LAYOUTS

    lines = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:3] for line in lines if line.startswith("| ") and not line.startswith("| layout")]
    listed = [(name.strip(), tuple(columns.strip().strip("`").split("`, `"))) for name, columns in rows]
    assert listed == [(layout.name, layout.columns) for layout in LAYOUTS]


# --- PRM800K -------------------------------------------------------------------------------------


def offered(*rated: tuple[str, int | None], chosen: int | None = None) -> dict[str, Any]:
    completions = [{"text": text, "rating": rating, "flagged": None} for text, rating in rated]
    return {"completions": completions, "human_completion": None, "chosen_completion": chosen}


def prm800k(*steps: dict[str, Any], reason: str = "solution") -> dict[str, Any]:
    question = {"problem": Q, "ground_truth_answer": "7", "pre_generated_steps": ["unused"]}
    return {"question": question, "label": {"steps": list(steps), "finish_reason": reason}, "labeler": "x"}


def test_prm800k_has_one_response_for_each_way_to_end(tmp_path: Path) -> None:
    row = prm800k(
        offered(("a", 1), ("x", -1), chosen=0), offered(("b", 0), ("y", 1), chosen=0), offered(("c", 1), chosen=0)
    )
    reading = read(tmp_path, row)
    (group,) = reading.groups
    assert reading.layout == "PRM800K"
    assert group.problem == Problem(prompt=Q, id="0", answer="7")
    assert group.rollouts == (
        Rollout(response="x", steps=("x",), correct=False, first_error=0, step_labels=(0.0,)),
        Rollout(response="a\ny", steps=("a\n", "y"), first_error=-1, step_labels=(1.0, 1.0)),  # nobody went on
        Rollout(
            response="a\nb\nc", steps=("a\n", "b\n", "c"), correct=True, first_error=-1, step_labels=(1.0, 1.0, 1.0)
        ),
    )


def test_prm800k_ends_at_an_error_and_goes_on_with_what_a_person_wrote(tmp_path: Path) -> None:
    written = offered(("x", -1)) | {"human_completion": {"text": "a", "rating": None}}
    (group,) = read(tmp_path, prm800k(written, offered(("z", -1), ("w", -1)), reason="found_error")).groups
    found = [(r.response, r.correct, r.first_error) for r in group.rollouts]
    assert found == [("x", False, 0), ("a\nz", False, 1), ("a\nw", False, 1)]
    (group,) = read(tmp_path, prm800k(offered(("a", 1), chosen=0), reason="give_up")).groups
    assert [(r.response, r.correct) for r in group.rollouts] == [("a", None)]
    with pytest.raises(ValueError, match=r":1: label.steps\[0\].rating is 2, not one of -1, 0, 1"):
        read(tmp_path, prm800k(offered(("a", 2), chosen=0)))


# --- refusals, several rows, containers -----------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"input": f"{Q} Step 1: a ки", "label": f"{Q} Step 1: a ?", "task": "MATH"},
            "label is .*, not the input with",
        ),
        (
            {"input": f"{Q} Step 1: a ки", "label": f"{Q} Step 1: a +-", "task": "MATH"},
            "label is .*, not the input with",
        ),
        ({"input": f"{Q} a ки", "label": f"{Q} a +", "task": "MATH"}, "label is .*, not the input with"),
        ({"modified_question": Q, "modified_process": ["a"], "error_steps": [2]}, "error_steps is 2, not .* from 1"),
        ({"messages": [*ASKED, *ASKED], "label": True}, "messages has messages of"),
        ({"prompt": Q, "chosen": [CALL], "rejected": [CALL]}, "chosen and rejected are the same"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f":1: {reason}"):
        read(tmp_path, row)


def test_pairs_of_one_prompt_are_not_pooled_and_responses_of_one_prompt_are(tmp_path: Path) -> None:
    pair = {"prompt": Q, "chosen": "7.", "rejected": "8.", "subset": "math-prm"}
    reading = read(tmp_path, pair | {"id": 1}, pair | {"id": 2, "rejected": "9."})
    assert [(g.problem.id, len(g.rollouts)) for g in reading.groups] == [("1", 2), ("2", 2)]
    row = {"idx": 3, "prompt": Q, "response": "7.", "correctness": True, "reference": "7"}
    (group,) = read(tmp_path, row, row | {"response": "8.", "correctness": False}).groups
    assert (group.problem.id, [r.correct for r in group.rollouts]) == ("3", [True, False])


def test_one_prompt_with_and_without_tools_is_two_problems(tmp_path: Path) -> None:
    row = {"prompt": ASKED, "completion": "7.", "label": True}
    groups = read(tmp_path, row, row | {"tools": TOOLS}).groups
    assert [group.problem.options for group in groups] == [None, {"tools": TOOLS}]


def facts(groups: tuple[Group, ...]) -> list[Any]:
    return [(g.problem.prompt, [(r.response, r.correct, r.steps) for r in g.rollouts]) for g in groups]


def test_csv_holds_labels_lists_and_messages_as_text(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion,label\n"A, b?\nC?","It is ""7"".",True\nD?,8,0\nE?,9,\n')
    assert facts(read_groups(str(path)).groups) == [
        ("A, b?\nC?", [('It is "7".', True, None)]),
        ("D?", [("8", False, None)]),
        ("E?", [("9", None, None)]),
    ]
    path.write_text('problem,steps,label,final_answer_correct\nA?,"[""a"", ""b""]",1,false\n')
    assert facts(read_groups(str(path)).groups) == [("A?", [("a\n\nb", False, ("a\n\n", "b"))])]
    path.write_text("prompt,completion,label\nA?,7,True\nB?,8\n")
    with pytest.raises(ValueError, match=f"{path}:3: the line has not 3 cells"):
        read_groups(str(path))
    path.write_text('prompt,completion,label\nA?,"7')
    with pytest.raises(ValueError, match=r"a.csv:2: no CSV .*looks cut"):
        read_groups(str(path))
    assert csv.field_size_limit() >= limit  # of the whole process, which other readers share


def test_an_object_of_lists_is_their_rows_in_order(tmp_path: Path) -> None:
    row = {"Question": Q, "Model_Solution_Steps": ["a"], "Model_Solution_Correctness": "correct"}
    found = {
        k: [row | {"Question_UUID": k, "Model_Solution_First_Error_Step": "N/A"} for _ in range(n)]
        for k, n in (("p", 2), ("q", 1))
    }
    (tmp_path / "math.json").write_text(json.dumps(found))
    assert [g.problem.id for g in read_groups(str(tmp_path / "math.json")).groups] == ["p", "p-2", "q"]


def test_a_folder_of_shards_is_read_in_order_of_names(tmp_path: Path) -> None:
    for k, name in enumerate(("train-1.jsonl", "train-0.jsonl")):
        (tmp_path / name).write_text(json.dumps({"prompt": f"q{k}", "completion": "a", "label": True}) + "\n")
    (tmp_path / "README.md").write_text("about")
    reading = read_groups(str(tmp_path))
    assert [group.problem.prompt for group in reading.groups] == ["q1", "q0"]
    (tmp_path / "other.csv").write_text("x")
    with pytest.raises(ValueError, match=r"files of several kinds \(.csv, .jsonl\)"):
        read_groups(str(tmp_path))


def test_a_saved_data_set_with_columns_of_mixed_types_is_read_as_what_it_held(tmp_path: Path) -> None:
    """Such columns are JSON text in the files: a prompt q1 was read as "q1" with quotation marks."""
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": "q1", "completion": "a"}, {"prompt": ASKED, "completion": "b"}]
    table = datasets.Dataset.from_list(rows, on_mixed_types="use_json")
    datasets.disable_progress_bars()
    table.to_parquet(str(tmp_path / "a.parquet"))
    table.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    datasets.DatasetDict({"test": table}).save_to_disk(str(tmp_path / "splits"))
    for name in ("a.parquet", "saved", "splits/test"):
        groups = read_groups(str(tmp_path / name)).groups
        assert facts(groups) == [("q1", [("a", None, None)]), (tuple(ASKED), [("b", None, None)])]
    with pytest.raises(ValueError, match=r"splits: holds the splits test; give one of them, .*splits/test"):
        read_groups(str(tmp_path / "splits"))


# --- what a review lost or crashed ------------------------------------------------------------------


def read_rows_of(tmp_path: Path, *rows: object) -> Reading:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_groups(str(path), on_bad="skip")


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "a", "answer": "7", "completions": ["x", "y"], "correctness": [True, False]},
        {"problem": "a", "answer": "7", "steps": ["x", "y"], "label": 1},
        {"problem": "a", "answer": "7", "response": "x", "correct": True},
        {"prompt": "b", "completions": ["x"], "correctness": [True]},
    ],
)
def test_no_response_is_lost_beside_problems(row: dict[str, object], tmp_path: Path) -> None:
    """In the first row of a problem file, or in a later one."""
    before = {"prompt": "a"} if "prompt" in row else {"problem": "z", "answer": "1"}
    assert "would be lost" in read_rows_of(tmp_path, before, row).refused[0].reason
    if "problem" in row:
        with pytest.raises(ValueError, match="would be lost: MATH holds problems alone"):
            read_rows_of(tmp_path, row)


def test_doubtful_responses_are_those_that_the_text_says(tmp_path: Path) -> None:
    row = {"prompt": "a", "completions": ["x", "y"], "correctness": [True, False], "ambiguous": ["False", "True"]}
    (group,) = read_rows_of(tmp_path, row).groups
    assert [rollout.response for rollout in group.rollouts] == ["x"]


@pytest.mark.parametrize(
    "step",
    [
        {"completions": [{"text": "a", "rating": 1}], "chosen_completion": 3},
        {"completions": [{"text": "a", "rating": 1}], "chosen_completion": -1},
        {"completions": [{"text": "a", "rating": 1}], "chosen_completion": "0"},
        {"completions": [{"text": "a", "rating": [1]}], "chosen_completion": 0},
        {"completions": ["a"], "chosen_completion": 0},
        {"completions": [], "chosen_completion": None, "human_completion": "x"},
        {"completions": [], "chosen_completion": None, "human_completion": {"text": None}},
        None,
    ],
)
def test_a_damaged_step_of_prm800k_is_one_refused_row(step: object, tmp_path: Path) -> None:
    label = {"finish_reason": "solution", "steps": [step]}
    row = {"question": {"problem": "q", "ground_truth_answer": "4"}, "label": label}
    with pytest.raises(ValueError, match=re.escape("label.steps[0]")):
        read_rows_of(tmp_path, row)


def test_gold_answers_of_one_prompt_are_one(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": t, "label": True, "reference": gold} for t, gold in (("x", None), ("y", "7"))]
    assert [group.problem.answer for group in read_rows_of(tmp_path, *rows).groups] == ["7"]
    other = {"prompt": "a", "completion": "z", "label": True, "reference": "6"}
    assert "the gold answer is '6'" in read_rows_of(tmp_path, *rows, other).refused[0].reason


def test_a_line_of_brackets_is_one_refused_row(tmp_path: Path) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_text("[" * 10_000 + "\n" + json.dumps({"prompt": "a", "completion": "x", "label": True}) + "\n")
    found = read_groups(str(path), on_bad="skip")
    assert (len(found.groups), len(found.refused)) == (1, 1)


def test_a_wrong_response_without_a_wrong_step_has_an_unknown_one(tmp_path: Path) -> None:
    row = {
        "question": "q", "ground_truth_answer": "4", "model_output_steps": ["a", "b"],
        "model_output_answer_correctness": "wrong", "model_output_solution_correctness": "wrong",
        "model_output_solution_first_error_step": None, "model_output_solution_first_error_reason": "",
    }  # fmt: skip
    ((rollout,),) = [group.rollouts for group in read_rows_of(tmp_path, row).groups]
    assert (rollout.correct, rollout.first_error) == (False, None)


@pytest.mark.parametrize("name", ["add_generation_prompt", "tokenize", "conversation"])
def test_options_of_the_template_cannot_replace_what_the_encoder_sets(name: str, tmp_path: Path) -> None:
    row = {"prompt": "a", "completion": "x", "label": True, "chat_template_kwargs": {name: False}}
    with pytest.raises(ValueError, match=f"chat_template_kwargs is .*{name}"):
        read_rows_of(tmp_path, row)


TURNS = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]


@pytest.mark.parametrize(
    ("row", "own"),
    [
        ({"messages": TURNS, "correct": True}, "label"),
        ({"conversations": TURNS, "is_correct": 0}, "label"),
        ({"prompt": "p", "completion": "c", "correctness": False}, "label"),
        ({"prompt": "p", "completion": "c", "Correct": False}, "label"),
        ({"prompt": "p", "completions": ["a", "b"], "outcomes": [1, 0]}, "correctness"),
        ({"prompt": "p", "completions": ["a", "b"], "is_correct": [True, None]}, "correctness"),
    ],
)
def test_a_label_under_another_layouts_name_is_refused_and_not_lost(
    row: dict[str, object], own: str, tmp_path: Path
) -> None:
    (name,) = row.keys() - {"messages", "conversations", "prompt", "completion", "completions"}
    with pytest.raises(ValueError, match=f"{name} would be lost: .* names the label as {own}. Rename"):
        read_rows_of(tmp_path, row)
    nothing = [None, None] if isinstance(row[name], list) else None
    assert not read_rows_of(tmp_path, row | {name: nothing}).refused
    assert read_rows_of(tmp_path, {new if k == name else k: v for k, v in row.items() for new in [own]}).refused == ()
