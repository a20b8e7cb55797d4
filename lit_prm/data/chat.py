"""The text around a response: what the chat template renders before it, and the end of turn behind it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lit_prm.data.records import Group, Message, Problem, Rollout

if TYPE_CHECKING:  # evaluation and its metrics import this file; importing transformers takes 4 CPU-s
    from transformers import PreTrainedTokenizerBase

_SENTINEL = "\u2063response\u2063"  # invisible separators: no template transforms them, no response holds them
_PLAIN = {"role", "content"}


class Chat:
    """The chat template of a tokenizer. Without one, the text of a prompt and a line break stand before a response.

    ``prompt_template`` wraps prompts that are strings. If the template ignores fields of messages beyond role and
    content, or tools, one warning says so.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_template: str) -> None:
        self.tokenizer = tokenizer
        self.prompt_template = prompt_template
        self._ignored = set[str]()

    def heads(self, problems: Sequence[Problem]) -> list[str]:
        """The text before a response to each problem: the template's, with its generation prompt.

        A prompt that ends in a turn of the assistant is continued there.
        """
        if not self.tokenizer.chat_template:
            return [self._plain(self._messages(problem)) for problem in problems]
        heads = list[str]()
        for (continued, options, more), run in groupby(problems, key=self._kind):  # together they take half the time
            chats = [self._messages(problem) for problem in run]
            how = {"add_generation_prompt": not continued, "continue_final_message": continued}
            heads += self._apply(chats, options, how) if not more else []
            heads += [self._heard(chat, options, how, more)[0] for chat in chats] if more else []
        return heads

    @cached_property
    def end(self) -> str:
        """The text behind a response: the template's end of turn, without a template the end-of-sequence token."""
        if not self.tokenizer.chat_template:
            return str(self.tokenizer.eos_token or "")
        chat = ({"role": "user", "content": "?"}, {"role": "assistant", "content": _SENTINEL})
        _, found, end = self._apply([chat], {}, {"add_generation_prompt": False})[0].rpartition(_SENTINEL)
        return end if found else str(self.tokenizer.eos_token or "")

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """The tokens that may end a turn: the first special one behind it, and the end of sequence."""
        special = [token for token in self.tokenizer.all_special_tokens if token and token in self.end]
        return tuple(filter(None, (min(special, key=self.end.find, default=""), self.tokenizer.eos_token)))

    def said(self, response: str) -> int:
        """Number of characters of a response before the end-of-turn token that it may have already."""
        text = response.rstrip()
        return next((len(text) - len(end) for end in self._ends if text.endswith(end)), len(response))

    def written_out(self, group: Group) -> Group:
        """The group with every response as text: a message becomes what the template writes behind the prompt."""
        if not any(rollout.message for rollout in group.rollouts):
            return group
        head = self.heads([group.problem])[0]
        rollouts = (self._written(group.problem, head, r, r.message) if r.message else r for r in group.rollouts)
        return replace(group, rollouts=tuple(rollouts))

    def _written(self, problem: Problem, head: str, rollout: Rollout, message: Message) -> Rollout:
        chat, fields = (*self._messages(problem), message), message.keys() - _PLAIN
        whole, ignored = self._heard(chat, problem.options or {}, {"add_generation_prompt": False}, fields)
        text = rollout.response if ignored else whole.removeprefix(head).removesuffix(self.end)
        if not ignored and not whole.startswith(head):
            raise ValueError(
                f"problem {problem.id}: with the response's message the chat template writes {whole[-200:]!r}, which "
                f"does not continue its generation prompt {head[-80:]!r}. Give the response as it was sampled."
            )
        if rollout.correct and not text.strip():
            raise ValueError(
                f"problem {problem.id}: the chat template writes nothing for a response with the fields "
                f"{sorted(message)}. Give the response as text, or another chat template."
            )
        return replace(rollout, response=text, message=None)

    def _messages(self, problem: Problem) -> tuple[Message, ...]:
        if isinstance(problem.prompt, str):
            return ({"role": "user", "content": self.prompt_template.replace("{prompt}", problem.prompt)},)
        return problem.prompt

    def _plain(self, chat: Sequence[Message]) -> str:
        self._warn({field for message in chat for field in message.keys() - _PLAIN})
        text = "\n".join(message["content"] or "" for message in chat)
        return text if text[-1:].isspace() or _continues(chat) else text + "\n"

    def _kind(self, problem: Problem) -> tuple[bool, dict[str, Any], set[str]]:
        """Whether the prompt's last turn is continued, the template's options, and what there is beside text."""
        chat, options = self._messages(problem), problem.options or {}
        more = {field for message in chat for field in message.keys() - _PLAIN}
        return _continues(chat), options, more | (options.keys() & {"tools"})

    def _heard(
        self, chat: Sequence[Message], options: dict[str, Any], how: dict[str, bool], more: set[str]
    ) -> tuple[str, bool]:
        """The text of a chat, and True, with a warning, if the template ignores ``more``: fields and tools."""
        bare = [{field: value for field, value in message.items() if field not in more} for message in chat]
        without = {name: value for name, value in options.items() if name not in more}
        if not self.tokenizer.chat_template:
            self._warn(more)
            return "", True
        text = self._with_nulls(chat, options, how)
        if text != self._with_nulls(bare, without, how):
            return text, False
        self._warn(more)
        return self._apply([_filled(bare)], without, how)[0], True

    def _with_nulls(self, chat: Sequence[Message], options: dict[str, Any], how: dict[str, bool]) -> str:
        """The text of a chat; a content of null is the empty text if the template cannot take it."""
        try:
            return self._apply([chat], options, how)[0]
        except ValueError:
            return self._apply([_filled(chat)], options, how)[0]

    def _warn(self, fields: set[str]) -> None:
        if new := fields - self._ignored:
            self._ignored |= new
            print(f"warning: the chat template ignores {', '.join(sorted(new))}", file=sys.stderr, flush=True)

    def _apply(self, chats: Sequence[Sequence[Message]], options: dict[str, Any], how: dict[str, bool]) -> list[str]:
        from jinja2 import TemplateError

        apply: Any = self.tokenizer.apply_chat_template
        try:
            texts: list[str] = apply(list(map(list, chats)), tokenize=False, **options, **how)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in chats[0])
            raise ValueError(
                f"The chat template of {self.tokenizer.name_or_path} cannot render a chat of {roles} ({error}). Give "
                "prompts that it takes."
            ) from None
        return texts


def _filled(chat: Sequence[Message]) -> list[Message]:
    """The messages with an empty text in place of a content of null."""
    return [message | {"content": message["content"] or ""} for message in chat]


def _continues(chat: Sequence[Message]) -> bool:
    """True if the last turn of the chat is the assistant's, so that the response goes on with it."""
    return bool(chat) and chat[-1]["role"] == "assistant"
