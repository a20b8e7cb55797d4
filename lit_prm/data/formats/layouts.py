"""The layouts of files that can be read, one class each, and the choice among them by a row's columns."""

from __future__ import annotations

from typing import ClassVar

from lit_prm.data.formats import columns as column
from lit_prm.data.formats.base import Layout, one_group
from lit_prm.data.formats.columns import BadRow, Row
from lit_prm.data.formats.trl import Conversation, FreshSample, PreferencePairs, Stepwise, Unpaired
from lit_prm.data.records import Group, Rollout


class PaperRollouts(Layout):
    """One problem a row, its responses in lists: the layout of the implicit PRM paper, and of files written here."""

    name = "paper rollouts"
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completions", "correctness")
    nullable: ClassVar[tuple[str, ...]] = ("correctness",)

    def group(self, row: Row) -> Group:
        responses = column.items(row["completions"], "completions")
        doubtful = column.parallel(row, "ambiguous", responses)
        names = ("correctness", "answers", "steps", "first_errors", "step_labels", "generators", "error_kinds")
        columns = [column.parallel(row, name, responses) for name in names]
        rollouts = [self._rollout(i, *values) for i, values in enumerate(zip(responses, *columns, strict=True))]
        kept = [r for r, out in zip(rollouts, doubtful, strict=True) if not out]
        return one_group(row, column.prompt(row["prompt"]), *kept)

    def _rollout(
        self, i: int, completion: object, correct: object, answer: object, pieces: object, error: object, marks: object,
        by: object, kinds: object,
    ) -> Rollout:  # fmt: skip
        right = column.maybe_label(correct, f"correctness[{i}]")
        response = column.sampled(completion, right, f"completions[{i}]")
        steps = None if pieces is None else tuple(str(s) for s in column.items(pieces, f"steps[{i}]"))
        tiles = steps is not None and all(steps) and "".join(steps) == response
        wrong_step = column.step_index(error, len(steps) if tiles and steps else None, f"first_errors[{i}]")
        return Rollout(
            response=response,
            correct=right,
            answer=column.maybe_text(answer, f"answers[{i}]"),
            steps=steps if tiles else None,
            # first errors and labels count these very steps
            first_error=wrong_step if tiles else None,
            step_labels=column.step_labels(marks, len(steps or ()), f"step_labels[{i}]") if tiles else None,
            generator=column.maybe_text(by, f"generators[{i}]"),
            error_kinds=column.error_kinds(kinds, len(steps or ()), f"error_kinds[{i}]") if tiles else None,
        )


class ProcessBench(Layout):
    """One response a row, cut into paragraphs, with the first wrong one."""

    name = "ProcessBench"
    columns = ("problem", "steps", "label", "final_answer_correct")

    def group(self, row: Row) -> Group:
        steps = column.tiled(column.texts(row["steps"], "steps"), "\n\n")
        rollout = Rollout(
            response="".join(steps),
            correct=column.label(row["final_answer_correct"], "final_answer_correct"),
            steps=steps,
            first_error=column.step_index(row["label"], len(steps), "label"),
            generator=column.maybe_text(row.get("generator"), "generator"),
        )
        question, answer = column.prompt(row["problem"], "problem"), column.gold(row.get("answer"), "answer")
        return Group(problem=column.problem(row, question, answer), rollouts=(rollout,))


class Math(Layout):
    """A problem of MATH and its gold answer, no responses yet."""

    name = "MATH"
    columns = ("problem", "answer")

    def fits(self, row: Row) -> bool:
        return "problem" in row and ("answer" in row or "solution" in row)

    def read(self, row: Row) -> Group:
        source = "answer" if row.get("answer") is not None else "solution"
        answer = column.gold(column.needed(row, source), source)
        if source == "solution" and answer == row["solution"]:
            raise BadRow("the solution has no \\boxed{...} and there is no answer column; give the answer")
        subject = "subject" if "subject" in row else "type"
        question = column.problem(row, column.prompt(column.needed(row, "problem"), "problem"), answer, subject)
        return Group(problem=question, rollouts=())

    group = read


class GSM8K(Layout):
    """A question and a solution that ends in `#### 12`, no responses yet."""

    name = "GSM8K"
    columns = ("question", "answer")

    def group(self, row: Row) -> Group:
        _, mark, last = column.text(row["answer"], "answer").rpartition("####")
        if not mark:
            raise column.wrong("answer's end", row["answer"][-40:], "`#### 12`", "call plain answers problem, answer")
        answer = column.text(last, "answer after ####").strip().replace(",", "")  # 1,234 is one number
        return Group(problem=column.problem(row, column.prompt(row["question"], "question"), answer), rollouts=())


class Samples(PaperRollouts):
    """One problem a row, with samples that have no labels."""

    name = "samples"
    columns = ("prompt", "completions")
    nullable = ()


LAYOUTS: tuple[Layout, ...] = (
    PaperRollouts(),
    ProcessBench(),
    Stepwise(),
    PreferencePairs(),
    Unpaired(),
    Conversation(),
    Math(),
    GSM8K(),
    Samples(),
    FreshSample(),
)


def layout_of(row: Row) -> Layout:
    """The first layout in ``LAYOUTS`` whose columns the row has; layouts with more columns come first."""
    for layout in LAYOUTS:
        if layout.fits(row):
            return layout
    known = "; ".join(f"{layout.name} ({', '.join(layout.columns)})" for layout in LAYOUTS)
    raise BadRow(f"columns {sorted(row)} fit no known layout; rename them to one of: {known}")
