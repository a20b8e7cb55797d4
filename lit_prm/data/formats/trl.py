"""Layouts of TRL and IPVRM: one response, or one pair of responses, a row."""

from __future__ import annotations

from itertools import takewhile
from typing import ClassVar

from lit_prm.data.formats.base import Layout, one_group
from lit_prm.data.formats.columns import BadRow, Row, items, label, maybe_label, messages, prompt, reply, texts, tiled
from lit_prm.data.records import Group, Message, Rollout


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
        return one_group(row, prompt(row["prompt"]), rollout)


class PreferencePairs(Layout):
    """TRL preference pairs; without a prompt column, the messages that both sides begin with are the prompt."""

    name = "TRL pairs"
    columns = ("chosen", "rejected")
    merges = True
    distinct = True  # one response may be in many pairs

    def group(self, row: Row) -> Group:
        sides = [row["chosen"], row["rejected"]]
        question = self._common(*sides) if row.get("prompt") is None else prompt(row["prompt"])
        chosen, rejected = (reply(side, question, name) for side, name in zip(sides, self.columns, strict=True))
        if chosen == rejected:
            raise BadRow(f"chosen and rejected are the same text {chosen[:40]!r}; remove the row")
        rollouts = Rollout(response=chosen, correct=True), Rollout(response=rejected, correct=False)
        return one_group(row, question, *rollouts)

    def _common(self, chosen: object, rejected: object) -> tuple[Message, ...]:
        if isinstance(chosen, str):
            raise BadRow("chosen is text and there is no prompt column; give the prompt in a column of its own")
        both = zip(messages(chosen, "chosen")[:-1], messages(rejected, "rejected")[:-1], strict=False)
        question = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], both))
        if not question:
            raise BadRow("chosen and rejected share no first message; give the prompt in a column of its own")
        return question


class Unpaired(Layout):
    """TRL unpaired preference: one response and its label a row."""

    name = "TRL unpaired"
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completion", "label")
    merges = True

    def group(self, row: Row) -> Group:
        question, right = prompt(row["prompt"]), maybe_label(row.get("label"), "label")
        response = reply(row["completion"], question, "completion", right)
        return one_group(row, question, Rollout(response=response, correct=right))


class Conversation(Layout):
    """IPVRM: a conversation whose last message is the response, with its label."""

    name = "IPVRM"
    columns = ("conversation", "label")
    merges = True

    def group(self, row: Row) -> Group:
        question = prompt(messages(row["conversation"], "conversation")[:-1], "conversation")
        response = reply(row["conversation"], question, "conversation")
        return one_group(row, question, Rollout(response=response, correct=label(row["label"], "label")))


class FreshSample(Unpaired):
    """One sample without a label a row."""

    name = "one sample a row"
    columns = ("prompt", "completion")
