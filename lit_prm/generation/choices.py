"""Reads the responses from a server's answer; an incomplete response repeats the request."""

from __future__ import annotations

from typing import Any

from lit_prm.generation.http import Answer, Passing

COMPLETE = ("stop", "length", None)  # other reasons ("abort", "content_filter") mean that the server ended the response


def choices(answer: Answer) -> list[tuple[str, str | None]]:
    """Text of each response, ordered by its index, and the reason why it ended.

    Raises ``Passing`` if one is not complete.
    """
    values = answer.get("choices")
    if not isinstance(values, list) or not values or not all(isinstance(choice, dict) for choice in values):
        raise Passing(f"the answer has no choices, only {sorted(answer)}: {str(answer.get('error', ''))[:200]}")
    return [(_text(choice), _reason(choice)) for choice in sorted(values, key=_index)]


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index", 0)
    if not isinstance(index, int):
        raise Passing(f"a choice has the index {index!r:.200}, which is not a number")
    return index


def _reason(choice: dict[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    if reason not in COMPLETE:
        raise Passing(
            f"a response ended with {reason!r:.200}: the server ended it before its end and before --max-tokens"
        )
    return reason


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message", {"content": choice.get("text")})
    if not isinstance(message, dict):
        raise Passing(f"a choice has a message that is not an object: {message!r:.200}")
    removed = [name for name in ("reasoning_content", "reasoning", "tool_calls") if message.get(name)]
    if removed:
        raise ValueError(
            f"The server removes a part of the response from its text ({', '.join(removed)}), but a reward needs the "
            "whole response. Start the server without reasoning and tool parsers, as llama-server with "
            "--reasoning-format none."
        )
    text = message.get("content")
    if not isinstance(text, str):
        raise Passing(f"a choice has no text: {text!r:.200}")
    return text
