"""Layouts with a rule of their own: nested labels, tags inside the text, answers inside solutions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lit_prm.data.formats import columns as column
from lit_prm.data.formats.base import Layout, Question
from lit_prm.data.formats.chat import prompt
from lit_prm.data.formats.columns import BadRow, Row
from lit_prm.data.formats.shapes import ProblemRows, untagged
from lit_prm.data.records import Rollout

_RATINGS = {1: 1.0, 0: 1.0, -1: 0.0, None: math.nan}  # neutral steps count as right, as in Lightman et al. (2023)


class Stepwise(Layout):
    """TRL's stepwise supervision: one response a row, a label for every step."""

    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        labels = column.items(row["labels"], "labels")
        pieces = column.items(row["completions"], "completions")
        if len(labels) != len(pieces) or not pieces:
            raise BadRow(f"{len(labels)} labels for {len(pieces)} steps; give one label for each of at least one step")
        right = [column.label(v, f"labels[{i}]") for i, v in enumerate(labels)]
        yield _of_steps(column.tiled(pieces, "\n", "completions"), right, all(right))


class PRM800K(Layout):
    """PRM800K as OpenAI gives it: rated alternatives for each step, of which one is continued.

    Each alternative that is not continued ends a response of its own. A response with a step rated -1 is wrong; the
    continued one is right if the labeler reached a solution. The others have no label.
    """

    def fits(self, row: Row) -> bool:
        return super().fits(row) and all(isinstance(row[name], Mapping) for name in self.columns)

    def asked(self, row: Row) -> Question:
        return prompt(row["question"].get("problem"), "question.problem")

    def answered(self, row: Row) -> str | None:
        return column.gold(row["question"].get("ground_truth_answer"), "question.ground_truth_answer")

    def rollouts(self, row: Row, question: Question) -> Iterator[Rollout]:
        path = list[tuple[str, float]]()
        for i, step in enumerate(column.items(row["label"].get("steps"), "label.steps")):
            name = f"label.steps[{i}]"
            step = _object(step, name)
            offered = [_rated(_object(c, name), name) for c in step.get("completions") or ()]
            chosen = step.get("chosen_completion")
            if chosen is not None and chosen not in range(len(offered)):
                raise column.wrong(f"{name}.chosen_completion", chosen, "the number of a completion", "correct the row")
            taken = offered.pop(int(chosen)) if chosen is not None else None
            if chosen is None and step.get("human_completion"):
                said = _object(step["human_completion"], f"{name}.human_completion")
                taken = (column.string(said.get("text"), f"{name}.human_completion.text"), 1.0)
            for other in offered:
                yield _judged([*path, other], None)
            if taken is None:
                return
            path.append(taken)
        if path:
            yield _judged(path, True if row["label"].get("finish_reason") == "solution" else None)


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise column.wrong(name, value, "an object", "correct the row")
    return value


def _rated(completion: Mapping[str, Any], name: str) -> tuple[str, float]:
    rating = completion.get("rating")
    if isinstance(rating, list | dict) or rating not in _RATINGS:
        raise column.wrong(f"{name}.rating", rating, "one of -1, 0, 1 and null", "correct the row")
    return column.string(completion.get("text"), f"{name}.text"), _RATINGS[rating]


def _judged(path: list[tuple[str, float]], solved: bool | None) -> Rollout:
    texts, ratings = zip(*path, strict=True)
    return _of_steps(column.tiled(texts, "\n", "steps"), ratings, False if 0.0 in ratings else solved)


def _of_steps(steps: tuple[str, ...], right: Iterable[float], correct: bool | None) -> Rollout:
    labels = tuple(map(float, right))
    first = labels.index(0.0) if 0.0 in labels else None if any(map(math.isnan, labels)) else -1
    return Rollout(response="".join(steps), steps=steps, step_labels=labels, first_error=first, correct=correct)


class TaggedSteps(Layout):
    """Math-Shepherd's data: question and steps in one text, each step ending with ки, for which ``label`` has + or -.

    The last step's label is the outcome: it says whether the final answer is right.
    """

    def asked(self, row: Row) -> Question:
        return column.text(self._cut(row)[0], "the text before Step 1:")

    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        _, solution, marks = self._cut(row)
        steps = untagged(solution, "ки")
        if len(steps) != len(marks):
            raise BadRow(f"label has {len(marks)} marks for {len(steps)} steps; give + or - for each step")
        yield _of_steps(steps, [mark == "+" for mark in marks], marks[-1] == "+")

    def _cut(self, row: Row) -> tuple[str, str, list[str]]:
        """The question, the solution and the mark of each step."""
        given, marked = column.text(row["input"], "input"), column.text(row["label"], "label")
        parts = given.split("ки")
        start, at, marks = parts[0].rfind("Step 1:"), 0, list[str]()
        for part in parts[:-1]:
            at += len(part)
            marks.append(marked[at : at + 1])
            at += 1
        if start < 0 or not marks or not set(marks) <= {"+", "-"} or len(marked) != at + len(parts[-1]):
            raise column.wrong("label", marked[-40:], "the input with + or - for each ки", "correct or remove the row")
        return given[:start].strip(), given[start:], marks


class MATH(ProblemRows):
    """A problem of MATH with its answer, or with a solution that boxes it."""

    def fits(self, row: Row) -> bool:
        return "problem" in row and ("answer" in row or "solution" in row)

    def read(self, row: Row) -> Any:
        column.needed(row, "problem")
        return self.group(row)

    def answered(self, row: Row) -> str | None:
        if row.get("answer") is not None or row.get("solution") is None:
            return column.gold(row.get("answer"), "answer")
        answer = column.gold(row["solution"], "solution")
        if answer == row["solution"]:
            raise BadRow("the solution has no \\boxed{...} and there is no answer column; give the answer")
        return answer


class GSM8K(ProblemRows):
    """A question and a solution that ends in `#### 12`."""

    def answered(self, row: Row) -> str | None:
        _, mark, last = column.text(row["answer"], "answer").rpartition("####")
        if not mark:
            raise column.wrong("answer's end", row["answer"][-40:], "`#### 12`", "call plain answers problem, answer")
        return column.text(last, "answer after ####").strip().replace(",", "")  # 1,234 is one number
