"""Prompts and responses that are text or chat messages, from the columns of a row. Each function raises ``BadRow``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lit_prm.data.formats.columns import BadRow, from_json, items, maybe_text, sampled, string, text, wrong
from lit_prm.data.records import Message

# roles of ShareGPT's turns {"from": ..., "value": ...} that have another name elsewhere
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "observation": "tool"}
_PLAIN = {"role", "content", "from", "value"}


def messages(value: object, name: str) -> tuple[Message, ...]:
    """Chat messages, each with a role and a text; fields beyond these are kept for the chat template."""
    return tuple(_message(item, f"{name}[{i}]") for i, item in enumerate(items(value, name)))


def _message(value: object, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise wrong(name, value, "a chat message", 'write it as {"role": ..., "content": ...}')
    role, said = value.get("role"), value.get("content")
    if role is None and "from" in value:
        role, said = _ROLES.get(str(value["from"]), value["from"]), value.get("value")
    content = maybe_text(said, f"{name}.content")
    more = {k: v for k, v in value.items() if k not in _PLAIN and v not in (None, [], {})}
    blank = None if more.get("tool_calls") else ""  # an empty system message is common and harmless
    return {"role": text(role, f"{name}.role"), "content": blank if content is None else content, **more}


def prompt(value: object, name: str = "prompt") -> str | tuple[Message, ...]:
    """A prompt: text, or the messages of a conversation so far."""
    found = _unpacked(value)
    if isinstance(found, str):
        return text(found, name)
    turns = messages(found, name)
    if not any((m["content"] or "").strip() for m in turns):
        raise BadRow(f"{name} has no content; give at least one message with content")
    return turns


def _unpacked(value: object) -> object:
    """The messages that a text holds as JSON, as in a CSV file; any other value unchanged."""
    found = from_json(value) if isinstance(value, str) and value.lstrip().startswith("[{") else None
    is_chat = isinstance(found, list) and all(isinstance(m, dict) and ("role" in m or "from" in m) for m in found)
    return found if is_chat else value


def reply(value: object, question: str | tuple[Message, ...], name: str, correct: bool | None = True) -> dict[str, Any]:
    """The ``response`` of a rollout, and its ``message`` if that has more fields than the text.

    A completion is text, one message or messages; the messages may repeat the prompt first.
    """
    found = _unpacked(value)
    if isinstance(found, str):
        return {"response": sampled(found, correct, name)}
    turns = messages([found] if isinstance(found, Mapping) else found, name)
    before = ({"role": "user", "content": question},) if isinstance(question, str) else question
    rest = turns[len(before) :] if turns[: len(before)] == before else turns
    if len(rest) != 1 or rest[0]["role"] != "assistant":
        raise BadRow(
            f"{name} has messages of {[m['role'] for m in rest]} after the prompt, "
            "not of one assistant; put earlier turns into the prompt"
        )
    if rest[0].keys() <= _PLAIN:
        return {"response": sampled(rest[0]["content"], correct, name)}
    return {"response": string(rest[0]["content"] or "", name), "message": rest[0]}
