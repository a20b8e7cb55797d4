"""The plan of a run: memory, disk, FLOPs and hours, with the texts that present them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prm.commands.plan.memory import Memory


@dataclass(frozen=True, slots=True)
class Plan:
    """All results of the command: the numbers of its JSON, and the memory under each strategy."""

    numbers: dict[str, Any]
    alternatives: dict[str, Memory]  # by strategy; the configured one comes first

    @property
    def memory(self) -> Memory:
        """Memory under the configured strategy."""
        return next(iter(self.alternatives.values()))

    @property
    def verdict(self) -> str:
        """Whether the run fits into a device, and which options make it fit."""
        n, share = self.numbers, f"{self.memory.peak / 1e9:.1f} of {self.numbers['available'] / 1e9:.0f} GB"
        if n["fits"]:
            return f"fits: {share}"
        if n["remedies"]:
            return f"does not fit: {share}; it fits with\n  {' '.join(n['remedies'])}"
        adapter = ", or train an adapter alone (--model.reward_model lit_prm.models.adapters.LoRAReward)"
        trains_all = n["trained_parameters"] == n["parameters"]
        return f"does not fit: {share}; take a smaller model or more memory{adapter if trains_all else ''}"

    @property
    def facts(self) -> dict[str, str]:
        """Name and text of each line above the tables."""
        n, flops = self.numbers, self.numbers["flops"]
        nodes, stored = f" on {n['nodes']} nodes" if n["nodes"] > 1 else "", n["store_bytes"] / 1e9
        return {
            "model": f"{n['model']}, shape from {n['shape_from']}",
            "parameters": f"{n['parameters']:,}, of which {n['trained_parameters']:,} are trained",
            "devices": f"{n['devices']} x {n['device']}{nodes}, {n['strategy']}, {n['precision']}",
            "lengths": n["lengths_from"],
            "data": f"{n['responses']:,} responses, {n['tokens_per_epoch']:,} tokens an epoch "
            f"({n['prompt_tokens']:,} of prompts)",
            "updates": f"{n['updates']:,}; the longest micro-batch has {n['longest_micro_batch_tokens']:,} positions",
            "reference store": f"{stored:.2f} GB on disk of training data" if stored else "none",
            "FLOPs": f"{flops['total']:.2e}: training {flops['training']:.2e}, recomputed {flops['recomputed']:.2e}, "
            f"reference {flops['reference']:.2e}",
            "time": f"{n['hours']:.2g} hours at {n['mfu']:.0%} of {n['peak_tflops']:g} TFLOP/s a device, "
            + ("evaluation and the labelling of steps left out" if n["labels_steps"] else "evaluation left out"),
        }  # fmt: skip
