"""The plan of a run: memory, disk, FLOPs and hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prm.commands.plan.memory import Memory


@dataclass(frozen=True, slots=True)
class Plan:
    """What is found, ready to be shown or written."""

    title: str
    facts: dict[str, str]
    numbers: dict[str, Any]
    alternatives: dict[str, Memory]  # by strategy, that of the configuration first
    memory: Memory
    available: int
    verdict: list[str]
