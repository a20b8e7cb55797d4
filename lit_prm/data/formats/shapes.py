"""The shapes that layouts have: one response a row, pairs, lists of responses, steps with the wrong one, problems."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from lit_prm.data.formats import columns as column
from lit_prm.data.formats.base import Layout, Question
from lit_prm.data.formats.chat import messages, prompt, reply
from lit_prm.data.formats.columns import BadRow, Row, items
from lit_prm.data.records import Message, Rollout


@dataclass(frozen=True, kw_only=True)
class OneResponse(Layout):
    """One response a row, with its label if the row has one."""

    merges: bool = True
    response: str = "completion"
    correct: str = "label"
    answer: str = ""

    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        right = column.maybe_label(row.get(self.correct), self.correct)
        said = reply(row[self.response], question, self.response, right)
        yield Rollout(**said, correct=right, answer=column.answer(row.get(self.answer), self.answer))


@dataclass(frozen=True, kw_only=True)
class LastTurn(Layout):
    """A conversation a row, whose last message is the response, with its label if the row has one."""

    merges: bool = True
    correct: str = "label"

    def asked(self, row: Row) -> Question:
        turns = messages(row[self.question], self.question)
        return prompt(turns[: -1 if self._is_answered(turns) else None], self.question)

    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        right = column.maybe_label(row.get(self.correct), self.correct)
        turns = messages(row[self.question], self.question)
        if self._is_answered(turns):
            yield Rollout(**reply(turns, question, self.question, right), correct=right)

    def _is_answered(self, turns: tuple[Message, ...]) -> bool:
        """False for a conversation that waits for a response, unless the layout asks for a label of one."""
        return self.correct in self.columns or [turn["role"] for turn in turns[-1:]] == ["assistant"]


@dataclass(frozen=True, kw_only=True)
class PairRows(Layout):
    """A preference pair a row. Each row is a problem of its own, so the pairs are those of the file and no others.

    Without a prompt, the messages that both sides begin with are the prompt.
    """

    sides: tuple[str, str] = ("chosen", "rejected")
    generators: tuple[str, str] = ("", "")

    def asked(self, row: Row) -> Question:
        if row.get(self.question) is not None:
            return prompt(row[self.question], self.question)
        chosen, rejected = (row[side] for side in self.sides)
        if isinstance(chosen, str):
            raise BadRow("chosen is text and there is no prompt column; give the prompt in a column of its own")
        both = zip(messages(chosen, "chosen")[:-1], messages(rejected, "rejected")[:-1], strict=False)
        question = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], both))
        if not question:
            raise BadRow("chosen and rejected share no first message; give the prompt in a column of its own")
        return question

    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        chosen, rejected = (reply(row[side], question, side) for side in self.sides)
        if chosen == rejected:
            raise BadRow(f"chosen and rejected are the same text {chosen['response'][:40]!r}; remove the row")
        for said, right, by in zip((chosen, rejected), (True, False), self.generators, strict=True):
            yield Rollout(**said, correct=right, generator=column.maybe_text(row.get(by), by))


@dataclass(frozen=True, kw_only=True)
class PaperRollouts(Layout):
    """One problem a row, its responses in lists: the layout of the implicit PRM paper, and of files written here.

    With a ``tag``, such as ки, responses that hold it are cut into steps at it, and it is not part of the response.
    """

    name: str = "paper rollouts"
    columns: tuple[str, ...] = ("prompt", "completions", "correctness")
    nullable: tuple[str, ...] = ("correctness",)
    responses: str = "completions"
    correct: str = "correctness"
    answers: str = "answers"
    tag: str = ""

    def rollouts(self, row: Row, question: Question) -> Iterator[Rollout]:
        responses = column.items(row[self.responses], self.responses)
        doubtful = column.parallel(row, "ambiguous", responses)
        names = (self.correct, self.answers, "steps", "first_errors", "step_labels", "generators", "error_kinds")
        columns = [column.parallel(row, name, responses) for name in names]
        for i, values in enumerate(zip(responses, *columns, strict=True)):
            if not column.maybe_label(doubtful[i], f"ambiguous[{i}]"):
                yield self._rollout(i, question, *values)

    def _rollout(
        self, i: int, question: Question, completion: object, correct: object, answer: object, pieces: object,
        error: object, marks: object, by: object, kinds: object,
    ) -> Rollout:  # fmt: skip
        right = column.maybe_label(correct, f"{self.correct}[{i}]")
        said = reply(completion, question, f"{self.responses}[{i}]", right)
        if self.tag and self.tag in said["response"]:
            pieces = untagged(said["response"], self.tag)
            said = {"response": "".join(pieces)}
        steps = None if pieces is None else column.steps_of(pieces, said["response"], f"steps[{i}]")
        if steps is None and error is not None:
            raise BadRow(f"first_errors[{i}] is {error!r}, and this response has no steps; give those that it counts")
        count = len(steps or ())
        return Rollout(
            **said,
            correct=right,
            answer=column.answer(answer, f"{self.answers}[{i}]"),
            steps=steps,
            first_error=column.step_index(error, count or None, f"first_errors[{i}]"),
            step_labels=column.step_labels(marks, count, f"step_labels[{i}]"),
            generator=column.maybe_text(by, f"generators[{i}]"),
            error_kinds=column.error_kinds(kinds, count, f"error_kinds[{i}]"),
        )


def untagged(text: str, tag: str) -> tuple[str, ...]:
    """The steps of a text in which each ends with a tag, one a line and without the tags."""
    steps = [step.strip() for step in text.split(tag)]
    return column.tiled(steps[:-1] if len(steps) > 1 and not steps[-1] else steps, "\n", "steps")


@dataclass(frozen=True, kw_only=True)
class Traced(Layout):
    """One response a row, cut into paragraphs, with its wrong steps: the first one, or a list of them.

    ``first`` is the number of the first step, ``none`` are the values that say that no step is wrong.
    """

    steps: str
    error: str
    first: int = 0
    none: tuple[object, ...] = ()
    correct: str = ""
    answer: str = ""
    kind: str = ""
    generator: str = "generator"
    choices: str = ""  # column with the options of a question, which follow it

    def asked(self, row: Row) -> Question:
        choices = column.maybe_text(row.get(self.choices), self.choices)
        return prompt(f"{column.text(row[self.question], self.question)}\n{choices}" if choices else row[self.question])

    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        steps, found = column.tiled(row[self.steps], "\n\n", self.steps), row.get(self.error)
        every = isinstance(found, list | tuple)  # each wrong step is named, so the others are right
        named: Sequence[object] = [] if found in self.none else items(found, self.error) if every else [found]
        wrong = [column.step_index(n, len(steps), self.error, self.first) for n in named]
        if every and (None in wrong or (len(wrong) > 1 and -1 in wrong)):
            raise column.wrong(self.error, found, "a list of step numbers", "correct or remove the row")
        right = self._is_right(row)
        unknown = None in wrong or (found is None and right is False)  # a wrong response has a wrong step
        kind = column.maybe_text(row.get(self.kind), self.kind)
        yield Rollout(
            response="".join(steps),
            steps=steps,
            correct=right,
            answer=column.answer(row.get(self.answer), self.answer),
            first_error=None if unknown else min((n for n in wrong if n is not None), default=-1),
            step_labels=tuple(float(k not in wrong) for k in range(len(steps))) if every else None,
            error_kinds=tuple(kind if k in wrong else "" for k in range(len(steps))) if kind and wrong else None,
            generator=column.maybe_text(row.get(self.generator), self.generator),
        )

    def _is_right(self, row: Row) -> bool | None:
        """The label of the response; without one, whether its answer is the gold answer to the letter."""
        if self.correct:
            return column.label(row[self.correct], self.correct)
        found = column.answer(row.get(self.answer), self.answer)
        return None if found is None else found == self.answered(row)


@dataclass(frozen=True, kw_only=True)
class ProblemRows(Layout):
    """A problem a row, with its answer if the row has one, and no responses yet."""

    gold: str = "answer"

    def fits(self, row: Row) -> bool:
        return super().fits(row) and not any(map(_OF_RESPONSES.search, row.keys() - set(self.columns)))

    def rollouts(self, row: Row, question: Question) -> Iterable[Rollout]:
        if lost := sorted(n for n in _RESPONSES & row.keys() - set(self.columns) if row[n] is not None):
            raise BadRow(
                f"{', '.join(lost)} would be lost: {self.name} holds problems alone. Name the columns as a layout with "
                "responses does (docs/formats.md), or remove them"
            )
        return ()


_RESPONSES = frozenset(
    {"completion", "completions", "response", "responses", "correct", "correctness", "label", "labels", "steps"}
)
_OF_RESPONSES = re.compile(
    "answers|chosen|completion|conversation|correct|generation|label|message|output|reject|respon|rollout|score|steps"
)
