"""The plan of a run: memory, disk, FLOPs and hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prm.commands.plan.memory import Memory


@dataclass(frozen=True, slots=True)
class Plan:
    """All results of the command, ready to print as tables or as JSON."""

    title: str
    facts: dict[str, str]
    numbers: dict[str, Any]
    alternatives: dict[str, Memory]  # by strategy; the configured one comes first
    memory: Memory  # of the configured strategy
    available: int  # bytes of a device
    verdict: list[str]  # lines: whether the run fits, and which options make it fit
