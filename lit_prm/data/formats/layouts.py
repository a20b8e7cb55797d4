"""The table of all layouts of files that can be read, and the choice among them by a row's columns."""

from __future__ import annotations

from difflib import get_close_matches

from lit_prm.data.formats.base import Layout
from lit_prm.data.formats.columns import BadRow, Row
from lit_prm.data.formats.shapes import LastTurn, OneResponse, PairRows, PaperRollouts, ProblemRows, Traced
from lit_prm.data.formats.special import GSM8K, MATH, PRM800K, Stepwise, TaggedSteps

__all__ = ["LAYOUTS", "PaperRollouts", "layout_of"]

LAYOUTS: tuple[Layout, ...] = (  # a layout stands before those whose columns are a subset of its own
    PaperRollouts(),
    Traced(
        name="ProcessBench", columns=("problem", "steps", "label", "final_answer_correct"), question="problem",
        gold="answer", steps="steps", error="label", correct="final_answer_correct", nullable=("label",),
    ),
    Traced(
        name="PRMBench", columns=("modified_question", "modified_process", "error_steps"), question="modified_question",
        steps="modified_process", error="error_steps", first=1, kind="classification", ids=("idx",),
    ),
    Traced(
        name="MR-Ben",
        columns=("Question", "Model_Solution_Steps", "Model_Solution_Correctness", "Model_Solution_First_Error_Step"),
        nullable=("Model_Solution_First_Error_Step",), question="Question", choices="Options", subject=("Subject",),
        gold="Ground_Truth_Answer", steps="Model_Solution_Steps", error="Model_Solution_First_Error_Step", first=1,
        none=(None, "N/A", ""), correct="Model_Solution_Correctness", generator="Sampled_Model",
        ids=("Question_UUID",),
    ),
    Traced(
        name="MR-GSM8K",
        columns=(
            "question", "model_output_steps", "model_output_solution_correctness",
            "model_output_solution_first_error_step",
        ),
        nullable=("model_output_solution_first_error_step",), question="question", gold="ground_truth_answer",
        steps="model_output_steps", error="model_output_solution_first_error_step", first=1, none=(None, "N/A", ""),
        correct="model_output_solution_correctness", subject=("question_type",), ids=("uuid",),
    ),
    Traced(
        name="BIG-Bench-Mistake", columns=("input", "steps", "target", "mistake_index"), nullable=("mistake_index",),
        question="input", gold="target", steps="steps", error="mistake_index", none=(None,), answer="answer",
    ),
    PRM800K(name="PRM800K", columns=("question", "label"), merges=True),
    TaggedSteps(name="Math-Shepherd", columns=("input", "label", "task"), merges=True, subject=("task",)),
    PaperRollouts(
        name="RLHFlow test set", columns=("prompt", "answers", "label"), nullable=(), responses="answers",
        correct="label", answers="", tag="ки",
    ),
    Stepwise(name="stepwise", columns=("prompt", "completions", "labels"), merges=True),
    PairRows(
        name="RewardBench", columns=("prompt", "chosen", "rejected", "subset"), subject=("subset",),
        generators=("chosen_model", "rejected_model"),
    ),
    PairRows(name="ShareGPT pairs", columns=("conversations", "chosen", "rejected"), question="conversations"),
    PairRows(name="TRL pairs", columns=("chosen", "rejected")),
    OneResponse(name="TRL unpaired", columns=("prompt", "completion", "label"), nullable=("label",)),
    OneResponse(
        name="paper test set", columns=("prompt", "response", "correctness"), response="response",
        correct="correctness", answer="extracted_output", ids=("idx",),
    ),
    LastTurn(name="IPVRM", columns=("conversation", "label"), nullable=("label",), question="conversation"),
    LastTurn(name="labelled messages", columns=("messages", "label"), nullable=("label",), question="messages"),
    LastTurn(
        name="labelled ShareGPT", columns=("conversations", "label"), nullable=("label",), question="conversations"
    ),
    LastTurn(
        name="ShareGPT KTO", columns=("conversations", "kto_tag"), nullable=("kto_tag",), question="conversations",
        correct="kto_tag",
    ),
    ProblemRows(
        name="OlympiadBench", columns=("question", "answer", "answer_type"), nullable=("answer",), question="question",
        subject=("subfield",),
    ),
    MATH(name="MATH", columns=("problem", "answer"), question="problem", subject=("subject", "type")),
    GSM8K(name="GSM8K", columns=("question", "answer"), question="question"),
    PaperRollouts(name="samples", columns=("prompt", "completions"), nullable=()),
    OneResponse(name="one sample a row", columns=("prompt", "completion")),
    LastTurn(name="messages", columns=("messages",), question="messages"),
    LastTurn(name="ShareGPT", columns=("conversations",), question="conversations"),
    *(ProblemRows(name=f"{name}s", columns=(name,), question=name) for name in ("problem", "question", "prompt")),
)  # fmt: skip


def layout_of(row: Row) -> Layout:
    """The first layout in ``LAYOUTS`` that the row's columns fit."""
    for layout in LAYOUTS:
        if layout.fits(row):
            return layout
    near = max(LAYOUTS, key=lambda layout: _likeness(layout, row))
    lacks = [name for name in near.columns if name not in row]
    missing = f", which also needs {', '.join(lacks)}" if lacks else ""
    raise BadRow(
        f"columns {sorted(row)} fit no known layout; the nearest is {near.name} ({', '.join(near.columns)}){missing}. "
        "Rename the columns; docs/formats.md has all layouts"
    )


def _likeness(layout: Layout, row: Row) -> tuple[float, int]:
    """How well the columns fit: 1 for one that the row has, less for one with a similar name, -1 for one that lacks."""
    worth = (1.0 if name in row else 0.75 if _has_similar(name, row) else -1.0 for name in layout.columns)
    return sum(worth), -len(layout.columns)


def _has_similar(name: str, row: Row) -> bool:
    others = [str(other).lower() for other in row]
    return any(name.lower() in other for other in others) or bool(get_close_matches(name.lower(), others, 1, 0.7))
