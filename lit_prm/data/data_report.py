"""The data report, printed before training: counts, labels, duplicates, lengths, problems shared with evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lit_prm.data.batch import Encoded
from lit_prm.data.encoding import length_quantiles
from lit_prm.data.formats import Reading
from lit_prm.data.records import Group

REASONS = 5  # largest number of refused rows that are listed
WHOLE = 0.95  # from this share of one-step responses on, the report warns about the step rule
_BETWEEN = re.compile(r"[\s$.,;:!?'\"]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """Counts of the training data: ``rows`` and ``refused`` of the file, all others of the chosen responses."""

    source: str
    layout: str
    rows: int
    refused: int
    reasons: tuple[str, ...]
    problems: int
    responses: int
    right: float
    all_right: int
    all_wrong: int
    duplicate_responses: int
    duplicate_problems: int
    truncated: int
    unlabelled: int
    steps: dict[str, int]
    steps_per_response: dict[str, int]
    one_step: int
    prompt_tokens: dict[str, int]
    response_tokens: dict[str, int]
    shared: dict[str, int]
    error_kinds: dict[str, int]
    too_long: int = 0

    @classmethod
    def of(
        cls,
        groups: Sequence[Group],
        encoded: Sequence[Encoded],
        *,
        reading: Reading,
        steps: Mapping[str, int],
        shared: Mapping[str, Sequence[Group]],
        too_long: int = 0,
    ) -> DataReport:
        """Count the chosen ``groups`` of a ``reading`` and their ``encoded`` responses.

        ``steps`` counts responses by the origin of their steps: the file or the name of a rule. ``shared`` has the
        groups whose problem each evaluation set has too, ``too_long`` is the number of chosen problems that were left
        out because their prompt fills max_length. Unlabelled responses were left out before the choice.
        """
        steps_per_response = [len(set(e.step.tolist())) for e in encoded]
        labels = [r.correct for g in groups for r in g.rollouts if r.correct is not None]
        return cls(
            source=reading.source,
            layout=reading.layout,
            rows=reading.rows,
            refused=len(reading.refused),
            reasons=tuple(f"{r.place}: {r.reason}" for r in reading.refused[:REASONS]),
            problems=len(groups),
            responses=sum(len(g.rollouts) for g in groups),
            right=sum(labels) / len(labels) if labels else float("nan"),
            all_right=sum(g.accuracy == 1 for g in groups),
            all_wrong=sum(g.accuracy == 0 for g in groups),
            duplicate_responses=sum(_repeats(r.response for r in g.rollouts) for g in groups),
            duplicate_problems=_repeats(normalised(g) for g in groups),
            truncated=sum(e.truncated for e in encoded),
            unlabelled=sum(r.correct is None for g in reading.groups for r in g.rollouts),
            steps=dict(steps),
            steps_per_response=length_quantiles(steps_per_response),
            one_step=sum(n <= 1 for n in steps_per_response),
            prompt_tokens=length_quantiles(e.prompt_length for e in encoded),
            response_tokens=length_quantiles(len(e) - e.prompt_length for e in encoded),
            shared={name: len(of_set) for name, of_set in shared.items()},
            too_long=too_long,
            error_kinds=dict(Counter(kind for g in groups for r in g.rollouts if (kind := r.first_error_kind))),
        )

    def as_dict(self) -> dict[str, Any]:
        """The counts by name, for JSON and loggers."""
        return asdict(self) | {"reasons": list(self.reasons)}

    def show(self, console: Console | None = None) -> None:
        """Print the counts as a small table."""
        table = Table(title=Text(f"training data: {self.source}"), title_justify="left", show_header=False)
        for name, fact in self._lines():
            table.add_row(name, Text(fact))  # Text, because rich would read [asy] in a file as markup
        (console or Console()).print(table)

    def _lines(self) -> list[tuple[str, str]]:
        mixed = self.problems - self.all_right - self.all_wrong
        several = len(self.steps) > 1
        origins = ", ".join(f"{name} ({n})" if several else name for name, n in self.steps.items())
        lines = [
            ("rows", f"{self.rows} read as {self.layout}, {self.refused} refused"),
            *(("", reason) for reason in self.reasons),
            ("problems", f"{self.problems}: {self.all_right} all right, {self.all_wrong} all wrong, {mixed} mixed"),
            ("responses", f"{self.responses}, {self.right:.1%} right, {self.truncated} truncated"),
            *([("first errors", self._kinds())] if self.error_kinds else ()),
            *(
                [("too long", f"{self.too_long} problems whose prompt fills max_length, left out")]
                if self.too_long
                else ()
            ),
            *([("unlabelled", f"{self.unlabelled} responses, left out")] if self.unlabelled else ()),
            *([("steps", origins)] if self.steps else ()),
            *([("steps per response", _quantiles(self.steps_per_response))] if self.steps_per_response else ()),
            *([("warning", self._one_step())] if self.responses and self.one_step >= WHOLE * self.responses else ()),
            ("duplicates", f"{self.duplicate_responses} responses, {self.duplicate_problems} problems"),
            ("prompt tokens", _quantiles(self.prompt_tokens)),
            ("response tokens", _quantiles(self.response_tokens)),
        ]
        both = ", ".join(f"{n} with {name}" for name, n in self.shared.items())
        return [*lines, ("shared problems", both)] if both else lines

    def _kinds(self) -> str:
        """The shares of all responses whose first error is of each kind, the commonest kind first."""
        ordered = sorted(self.error_kinds.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{kind} in {n / self.responses:.1%} of the responses" for kind, n in ordered)

    def _one_step(self) -> str:
        return (
            f"{self.one_step} of {self.responses} responses are a single step, so there are no rewards of steps. If "
            "they have steps, name the rule: --data.steps Marked, BlankLine, Newline, Sentence"
        )


def _repeats(texts: Any) -> int:
    """Number of texts that repeat an earlier one."""
    return sum(n - 1 for n in Counter(texts).values())


def _quantiles(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in lengths.items()) or "none"


def normalised(group: Group) -> str:
    """The problem's text in lower case without white space, dollar signs and punctuation; operators stay.

    Between two digits a point or one space is kept: 2.5 and 2 5 are not 25; but 1,000 becomes 1000.
    """
    return _BETWEEN.sub(_kept, _THOUSANDS.sub("", group.problem.text.lower()))


def _kept(run: re.Match[str]) -> str:
    text, (start, end) = run.string, run.span()
    if not (text[max(start - 1, 0) : start].isdigit() and text[end : end + 1].isdigit()):
        return ""
    return "." if run.group() == "." else " "


def shared(groups: Sequence[Group], evaluation: Mapping[str, Sequence[Group]]) -> dict[str, list[Group]]:
    """For every evaluation set, those of ``groups`` whose problem it has too, by normalised text."""
    texts = [normalised(group) for group in groups]
    held_out = {name: {normalised(group) for group in others} for name, others in evaluation.items()}
    return {name: [g for g, t in zip(groups, texts, strict=True) if t in of_set] for name, of_set in held_out.items()}


def drop_shared(groups: Sequence[Group], in_both: Mapping[str, Sequence[Group]]) -> list[Group]:
    """The groups whose problem is in no evaluation set; ``in_both`` is what ``shared`` found."""
    dropped = {id(group) for of_set in in_both.values() for group in of_set}
    return [group for group in groups if id(group) not in dropped]


def refuse_shared(in_both: Mapping[str, Sequence[Group]], allow: bool = False) -> None:
    """Raise ValueError if ``shared`` found a problem in an evaluation set; with ``allow`` print a warning."""
    found = {name: groups for name, groups in in_both.items() if groups}
    if not found:
        return
    first = next(iter(found.values()))[0].problem.text[:60]
    counts = ", ".join(f"{len(groups)} with {name}" for name, groups in found.items())
    problem = f"training shares problems with evaluation sets: {counts} (first: {first!r})"
    if not allow:
        raise ValueError(
            f"{problem}. Set data.shared_problems: drop to leave them out of training, or allow to keep them."
        )
    warning = f"warning: {problem}; allowed by data.shared_problems"
    Console(stderr=True).print(Text(warning), soft_wrap=True)
