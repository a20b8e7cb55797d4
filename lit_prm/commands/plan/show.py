"""Prints a plan: facts, memory by part and strategy, a bar of the memory."""

from __future__ import annotations

from itertools import accumulate

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lit_prm.commands.plan.memory import Memory
from lit_prm.commands.plan.plan import Plan
from lit_prm.evaluation.tables import Table
from lit_prm.evaluation.tables import show as show_tables

COLOURS = ("blue", "cyan", "magenta", "yellow", "white", "green", "red", "bright_black")
WIDTH = 50  # characters of the device's memory


def show(plan: Plan, console: Console | None = None) -> None:
    """Print a plan."""
    console = console or Console()
    console.print(Text(f"{plan.numbers['name']} at {plan.numbers['scale']}", style="bold"))
    facts = Grid.grid(padding=(0, 2))
    for name, value in plan.facts.items():
        facts.add_row(name, Text(value))
    console.print(facts, "")
    show_tables([_parts(plan)], console)
    console.print(picture(plan.memory, plan.numbers["available"]))
    console.print(Text(plan.verdict), soft_wrap=True)


def _parts(plan: Plan) -> Table:
    every = list(plan.alternatives.values())
    parts = ("weights", "gradients", "optimizer", "reference", "communication", "activations")
    rows: list[tuple[str, ...]] = [(part, *(gb(m.parts[part]) for m in every)) for part in parts]
    rows += [("busiest moment", *(gb(m.parts[m.busiest]) for m in every)), ("  which is", *(m.busiest for m in every))]
    rows += [("framework", *(gb(m.parts["framework"]) for m in every)), (), ("training", *(gb(m.total) for m in every))]
    if any(m.filling for m in every):
        rows.append(("filling store", *(gb(m.filling) for m in every)))
    if any(m.on_host for m in every):
        rows.append(("host, per device", *(gb(m.on_host) for m in every)))
    rows.append(("fits", *("yes" if m.peak <= plan.numbers["available"] else "no" for m in every)))
    return Table(("at the peak", *plan.alternatives), tuple(rows), "memory of a device, GB")


def picture(memory: Memory, available: int) -> Text:
    """A bar of the parts, as long as the larger of the device's memory and the total, and the parts' names."""
    largest = max(available, memory.total)
    text = Text()
    ends = [round(WIDTH * end / largest) for end in accumulate(memory.parts.values())]
    start = 0
    for colour, end in zip(COLOURS, ends, strict=True):
        text.append("█" * (end - start), style=colour)
        start = end
    text.append("░" * (round(WIDTH * available / largest) - start))
    text.append(f" {gb(memory.total)} of {gb(available)} GB\n")
    for colour, (name, size) in zip(COLOURS, memory.parts.items(), strict=True):
        if size:
            text.append("█", style=colour)
            text.append(f" {name}  ")
    return text


def gb(size: int) -> str:
    """Size in units of 1e9 bytes, with three digits below 1 and one above."""
    return f"{size / 1e9:.3f}" if 0 < size < 1e9 else f"{size / 1e9:.1f}"
