"""The responses in a server's answer: only whole ones are taken."""

from __future__ import annotations

from typing import Any, NamedTuple

from lit_prm.generation.http import Answer, Passing

WHOLE = ("stop", "length", None)  # what else ends a response ("abort", "content_filter") is the server's doing


class Choice(NamedTuple):
    """A response as it came, and why it ended."""

    text: str
    finish_reason: str | None


def choices(answer: Answer) -> list[Choice]:
    """Every choice, in the order of its index."""
    found = answer.get("choices")
    if not isinstance(found, list) or not found or not all(isinstance(choice, dict) for choice in found):
        raise Passing(f"the answer has no choices but {sorted(answer)}: {str(answer.get('error', ''))[:200]}")
    return [Choice(_text(choice), _reason(choice)) for choice in sorted(found, key=_index)]


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index", 0)
    if not isinstance(index, int):
        raise Passing(f"a choice has the index {index!r:.200}, which is no number")
    return index


def _reason(choice: dict[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    if reason not in WHOLE:
        raise Passing(f"a response ended with {reason!r:.200}, neither by itself nor at --max-tokens")
    return reason


def _text(choice: dict[str, Any]) -> str:
    said = choice.get("message", {"content": choice.get("text")})
    if not isinstance(said, dict):
        raise Passing(f"a choice has a message that is no object but {said!r:.200}")
    apart = [name for name in ("reasoning_content", "reasoning", "tool_calls") if said.get(name)]
    if apart:
        raise ValueError(
            f"the server takes a part of the response out of its text ({', '.join(apart)}), and a reward is of the "
            "whole; start it without reasoning and tool parsers (llama-server: --reasoning-format none)"
        )
    text = said.get("content")
    if not isinstance(text, str):
        raise Passing(f"a choice has no text but {text!r:.200}")
    return text
