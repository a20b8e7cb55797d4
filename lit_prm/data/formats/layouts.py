"""The column layouts in use, one class each: a row becomes a problem with the rollouts the row holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import takewhile
from typing import ClassVar

from lit_prm.data.formats.columns import (
    BadRow,
    Row,
    gold,
    items,
    label,
    maybe_label,
    maybe_text,
    messages,
    needed,
    parallel,
    problem,
    prompt,
    reply,
    sampled,
    step_index,
    step_labels,
    text,
    texts,
    tiled,
    wrong,
)
from lit_prm.data.records import Group, Message, Rollout


class Layout(ABC):
    """Columns that belong together. ``merges``: rows of one prompt are one group; ``distinct``: repeats are dropped.

    Of the columns, which every row has, the ``nullable`` may say nothing.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    nullable: ClassVar[tuple[str, ...]] = ()
    merges: ClassVar[bool] = False
    distinct: ClassVar[bool] = False

    def fits(self, row: Row) -> bool:
        return set(self.columns) <= set(row)

    def read(self, row: Row) -> Group:
        """The group of a row; every needed column is there."""
        for column in self.columns:
            if column not in row or column not in self.nullable:
                needed(row, column)
        return self.group(row)

    @abstractmethod
    def group(self, row: Row) -> Group: ...


class PaperRollouts(Layout):
    """One row a problem, its responses in lists: the implicit PRM paper's data, and what this project writes."""

    name = "paper rollouts"
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completions", "correctness")
    nullable: ClassVar[tuple[str, ...]] = ("correctness",)

    def group(self, row: Row) -> Group:
        responses = items(row["completions"], "completions")
        doubtful = parallel(row, "ambiguous", responses)
        kept = [r for r, out in zip(self._rollouts(row, responses), doubtful, strict=True) if not out]
        asked = problem(row, prompt(row["prompt"]), gold(row.get("reference"), "reference"))
        return Group(problem=asked, rollouts=tuple(kept))

    def _rollouts(self, row: Row, responses: Sequence[object]) -> list[Rollout]:
        names = ("correctness", "answers", "steps", "first_errors", "step_labels", "generators")
        columns = [parallel(row, name, responses) for name in names]
        return [self._rollout(i, *values) for i, values in enumerate(zip(responses, *columns, strict=True))]

    def _rollout(
        self, i: int, said: object, correct: object, answer: object, pieces: object, error: object, marks: object,
        by: object,
    ) -> Rollout:  # fmt: skip
        right = maybe_label(correct, f"correctness[{i}]")
        response = sampled(said, right, f"completions[{i}]")
        steps = None if pieces is None else tuple(str(s) for s in items(pieces, f"steps[{i}]"))
        tiles = steps is not None and all(steps) and "".join(steps) == response
        wrong_step = step_index(error, len(steps) if tiles and steps else None, f"first_errors[{i}]")
        return Rollout(
            response=response,
            correct=right,
            answer=maybe_text(answer, f"answers[{i}]"),
            steps=steps if tiles else None,
            # into other steps than these they would mean something else
            first_error=wrong_step if tiles else None,
            step_labels=step_labels(marks, len(steps or ()), f"step_labels[{i}]") if tiles else None,
            generator=maybe_text(by, f"generators[{i}]"),
        )


class ProcessBench(Layout):
    """One response a row, cut into paragraphs, with the first wrong one."""

    name = "ProcessBench"
    columns = ("problem", "steps", "label", "final_answer_correct")

    def group(self, row: Row) -> Group:
        steps = tiled(texts(row["steps"], "steps"), "\n\n")
        rollout = Rollout(
            response="".join(steps),
            correct=label(row["final_answer_correct"], "final_answer_correct"),
            steps=steps,
            first_error=step_index(row["label"], len(steps), "label"),
            generator=maybe_text(row.get("generator"), "generator"),
        )
        asked = problem(row, prompt(row["problem"], "problem"), gold(row.get("answer"), "answer"))
        return Group(problem=asked, rollouts=(rollout,))


class Stepwise(Layout):
    """TRL's stepwise supervision: one response a row, a label for every step."""

    name = "stepwise"
    columns = ("prompt", "completions", "labels")
    merges = True

    def group(self, row: Row) -> Group:
        steps = tiled(texts(row["completions"], "completions"), "\n")
        right = [label(v, f"labels[{i}]") for i, v in enumerate(items(row["labels"], "labels"))]
        if len(right) != len(steps) or not steps:
            raise BadRow(f"{len(right)} labels for {len(steps)} steps; give one label for each of at least one step")
        rollout = Rollout(
            response="".join(steps),
            correct=all(right),
            steps=steps,
            first_error=right.index(False) if False in right else -1,
            step_labels=tuple(float(r) for r in right),
        )
        return _one(row, prompt(row["prompt"]), rollout)


class PreferencePairs(Layout):
    """TRL preference pairs; without a prompt column the messages both sides begin with are the prompt."""

    name = "TRL pairs"
    columns = ("chosen", "rejected")
    merges = True
    distinct = True  # one response stands in many pairs

    def group(self, row: Row) -> Group:
        sides = [row["chosen"], row["rejected"]]
        said = self._common(*sides) if row.get("prompt") is None else prompt(row["prompt"])
        chosen, rejected = (reply(side, said, name) for side, name in zip(sides, self.columns, strict=True))
        if chosen == rejected:
            raise BadRow(f"chosen and rejected are the same text {chosen[:40]!r}; remove the row")
        return _one(row, said, Rollout(response=chosen, correct=True), Rollout(response=rejected, correct=False))

    def _common(self, chosen: object, rejected: object) -> tuple[Message, ...]:
        if isinstance(chosen, str):
            raise BadRow("chosen is text and there is no prompt column; give the prompt in a column of its own")
        both = zip(messages(chosen, "chosen")[:-1], messages(rejected, "rejected")[:-1], strict=False)
        said = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], both))
        if not said:
            raise BadRow("chosen and rejected share no first message; give the prompt in a column of its own")
        return said


class Unpaired(Layout):
    """TRL unpaired preference: one response with its label a row."""

    name = "TRL unpaired"
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completion", "label")
    merges = True

    def group(self, row: Row) -> Group:
        said, right = prompt(row["prompt"]), maybe_label(row.get("label"), "label")
        response = reply(row["completion"], said, "completion", right)
        return _one(row, said, Rollout(response=response, correct=right))


class Conversation(Layout):
    """IPVRM: a conversation whose last message is the response, with its label."""

    name = "IPVRM"
    columns = ("conversation", "label")
    merges = True

    def group(self, row: Row) -> Group:
        said = prompt(messages(row["conversation"], "conversation")[:-1], "conversation")
        response = reply(row["conversation"], said, "conversation")
        return _one(row, said, Rollout(response=response, correct=label(row["label"], "label")))


class Math(Layout):
    """A problem of MATH and its gold answer, no responses yet."""

    name = "MATH"
    columns = ("problem", "answer")

    def fits(self, row: Row) -> bool:
        return "problem" in row and ("answer" in row or "solution" in row)

    def read(self, row: Row) -> Group:
        source = "answer" if row.get("answer") is not None else "solution"
        answer = gold(needed(row, source), source)
        if source == "solution" and answer == row["solution"]:
            raise BadRow("the solution has no \\boxed{...} and there is no answer column; give the answer")
        subject = "subject" if "subject" in row else "type"
        asked = problem(row, prompt(needed(row, "problem"), "problem"), answer, subject)
        return Group(problem=asked, rollouts=())

    group = read


class GSM8K(Layout):
    """A question and a solution that ends in `#### 12`, no responses yet."""

    name = "GSM8K"
    columns = ("question", "answer")

    def group(self, row: Row) -> Group:
        _, mark, last = text(row["answer"], "answer").rpartition("####")
        if not mark:
            raise wrong("answer's end", row["answer"][-40:], "`#### 12`", "call plain answers problem, answer")
        answer = text(last, "answer after ####").strip().replace(",", "")  # 1,234 is one number
        return Group(problem=problem(row, prompt(row["question"], "question"), answer), rollouts=())


class Samples(PaperRollouts):
    """One row a problem with fresh samples, which nobody has labelled."""

    name = "samples"
    columns = ("prompt", "completions")
    nullable = ()


class FreshSample(Unpaired):
    """One fresh sample a row, which nobody has labelled."""

    name = "one sample a row"
    columns = ("prompt", "completion")


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
    """The first layout whose columns the row has; the more particular come first."""
    for layout in LAYOUTS:
        if layout.fits(row):
            return layout
    known = "; ".join(f"{layout.name} ({', '.join(layout.columns)})" for layout in LAYOUTS)
    raise BadRow(f"columns {sorted(row)} fit no known layout; rename them to one of: {known}")


def _one(row: Row, said: str | tuple[Message, ...], *rollouts: Rollout) -> Group:
    return Group(problem=problem(row, said, gold(row.get("reference"), "reference")), rollouts=rollouts)
