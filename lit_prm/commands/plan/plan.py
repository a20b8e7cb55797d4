"""The plan of a run: memory, disk, FLOPs and hours, with the texts that present them."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import yaml

from lit_prm.commands.experiment import options
from lit_prm.commands.lightning import resolved_config
from lit_prm.commands.plan.lengths import EpochLengths, lengths_of
from lit_prm.commands.plan.memory import Memory, memory
from lit_prm.commands.plan.network import config_of, weights
from lit_prm.commands.plan.remedies import remedies
from lit_prm.commands.plan.setup import Setup
from lit_prm.commands.plan.setup_of import setup_of
from lit_prm.commands.plan.sharding import Whole, Zero
from lit_prm.models.flops import Work, backward, forward, shape_of


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


def plan(given: Namespace, overrides: Sequence[str], known: Mapping[str, Mapping[str, float]]) -> Plan:
    """The plan of an experiment; ``given`` holds the command's own arguments, ``known`` the rates of known devices."""
    resolved = yaml.safe_load(resolved_config(options(given.name, given.scale, 0, overrides)))
    accelerator = resolved["trainer"].get("accelerator") or "auto"
    on_gpu = torch.cuda.is_available() if accelerator == "auto" else accelerator in ("gpu", "cuda")
    setup = setup_of(resolved, on_gpu=on_gpu)
    device = given.device or ("h100" if on_gpu else "cpu")
    rates = known[device]
    available = round((given.memory or rates["memory"]) * 1e9)
    config, source = config_of(setup.policy, given.shape)
    counted = weights(config, word_head=setup.word_head, adapter=setup.adapter)
    sizes = {name: getattr(given, name) for name in ("problems", "prompt_tokens", "response_tokens")}
    lengths = lengths_of(resolved["data"], setup, {name: size for name, size in sizes.items() if size})

    def needed(of: Setup) -> Memory:
        return memory(config, counted, of, lengths.longest(of))

    alternatives = {name: needed(of) for name, of in _alternatives(setup).items()}
    peak = given.peak or rates["32" if setup.computes_in == torch.float32 else "bf16"]
    flops = flops_of(config, setup, lengths)
    numbers = {
        "name": given.name,
        "scale": given.scale,
        "model": setup.policy,
        "shape_from": source,
        "device": device,
        "devices": setup.ranks,
        "nodes": setup.nodes,
        "strategy": setup.strategy,
        "precision": setup.precision,
        "parameters": counted.all,
        "trained_parameters": counted.trained,
        "lengths_from": lengths.source,
        "responses": lengths.responses,
        "prompt_tokens": lengths.prompt_tokens,
        "tokens_per_epoch": lengths.read.tokens,
        "updates": min(lengths.updates * setup.epochs, setup.most_updates or math.inf),
        "longest_micro_batch_tokens": lengths.longest(setup).tokens,
        "store_bytes": setup.readings_stored * lengths.store,
        "flops": flops,
        "labels_steps": bool(resolved["data"].get("labeler")),
        "mfu": given.mfu,
        "peak_tflops": peak,
        "hours": flops["total"] / (setup.ranks * peak * 1e12 * given.mfu * 3600),
        "memory": {name: needs.as_numbers() for name, needs in alternatives.items()},
        "available": available,
        "fits": alternatives[setup.strategy].peak <= available,
    }
    if not numbers["fits"]:
        changes = remedies(setup, available, lambda of: needed(of).peak, lengths.problems)
        numbers["remedies"] = None if changes is None else [f"{option} {value}" for option, value in changes.items()]
    return Plan(numbers, alternatives)


def _alternatives(setup: Setup) -> dict[str, Setup]:
    """The setup under each strategy without offload, by the strategy's name; the configured strategy comes first."""
    configured = setup.sharding
    zero = replace(configured, offload=False) if isinstance(configured, Zero) else Zero(3)
    every = [Whole(), *(replace(zero, stage=stage) for stage in (1, 2, 3) if setup.ranks > 1)]
    return {of.strategy: of for of in (replace(setup, sharding=s) for s in (configured, *every))}


def flops_of(config: Any, setup: Setup, lengths: EpochLengths) -> dict[str, int]:
    """FLOPs of training on every response in every epoch, and of the reference; ``total`` is their sum.

    A stored reference reads each response once, a live one in every epoch. Training counts gradients of all weights, as
    the cost metrics of runs do; training an adapter really needs a third less. What gradient checkpointing recomputes
    counts in the hours, not in a run's cost. All are counted by ``lit_prm.models.flops``, as those of a real run.
    """
    shape = shape_of(config)
    epoch = lengths.read if setup.word_head else replace(lengths.read, outputs=0)
    epochs = min(setup.epochs, (setup.most_updates or math.inf) / lengths.updates)
    once = forward(shape, epoch)
    again = once if setup.mismatched else 0
    saved = lengths.repeated if setup.shares else Work()
    read = Work(epoch.tokens - saved.tokens, epoch.contexts - saved.contexts, epoch.outputs)
    body = replace(read, outputs=0)
    readings = (epochs if setup.reference in ("live", "adapter off") else 0) + (setup.filled_by != "nobody")
    flops = {
        "training": round(epochs * (forward(shape, read) + backward(shape, read) + again)),
        "recomputed": round(epochs * forward(shape, body)) if setup.checkpointing else 0,
        "reference": round(readings * (once + again)),
    }
    return flops | {"total": sum(flops.values())}
