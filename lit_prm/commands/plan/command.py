"""The `plan` command: memory, disk, FLOPs and hours of an experiment at a scale, without loading weights."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

from lit_prm.commands.experiment import OVERRIDES, config_files, options
from lit_prm.commands.plan.plan import Plan
from lit_prm.scoring.options import CommandParser

if TYPE_CHECKING:
    from lit_prm.commands.plan.memory import Memory
    from lit_prm.commands.plan.setup import Setup

# Model FLOPs utilisation: the share of a device's peak rate that training reaches. Dense decoders of these sizes are
# commonly trained at this share on GPUs with flash attention. It is assumed, not measured by us. The "peak" of a CPU
# is a measured rate of matrix products.
MFU = 0.4


def main(args: Sequence[str]) -> None:
    """`plan NAME [--scale S] [OVERRIDES]`; the exit status is 1 if the run does not fit into a device's memory."""
    given, overrides = arguments().parse_known_args(list(args))
    config_files(given.name, given.scale)  # refuses a wrong name before torch is imported
    _refuse_amounts(given)
    planned = plan(given, overrides)
    if given.json:
        print(json.dumps(planned.numbers, indent=1))
    else:
        from lit_prm.commands.plan.show import show

        show(planned)
    if not planned.numbers["fits"]:
        raise SystemExit(1)


def arguments() -> argparse.ArgumentParser:
    """The command's own arguments; all others are overrides."""
    parser = CommandParser("plan", epilog=f"{OVERRIDES}\nThe exit status is 1 if the run does not fit.")
    add = parser.add_argument
    add("name", metavar="NAME", help="experiment: a file's stem in experiments/")
    add("--scale", default="tiny", help="a file's stem in experiments/scale/ (default: %(default)s)")
    add("--shape", help="config.json, folder or known model whose sizes to use instead of base_model's")
    add("--device", choices=sorted(devices()), help="default: h100 if the scale trains on GPUs, else cpu")
    add("--memory", type=float, metavar="GB", help="memory of one device (default: that of --device)")
    add("--peak", type=float, metavar="TFLOP/S", help="peak rate of one device (default: of --device)")
    add(
        "--mfu", type=float, default=MFU, help="share of the peak that training reaches (default: %(default)s, assumed)"
    )
    add("--problems", type=int, metavar="N", help="problems to train on (default: counted in the files)")
    add("--prompt-tokens", type=int, metavar="N", help="tokens of each prompt (default: counted in the files)")
    add("--response-tokens", type=int, metavar="N", help="tokens of each response (default: counted in the files)")
    add("--json", action="store_true", help="print the numbers as JSON, without tables")
    return parser


def _refuse_amounts(given: argparse.Namespace) -> None:
    if not 0 < given.mfu <= 1:
        raise ValueError(f"--mfu {given.mfu} is not a share of the peak rate. Give a number above 0 and at most 1")
    for name in ("memory", "peak", "problems", "prompt_tokens", "response_tokens"):
        value = getattr(given, name)
        if value is not None and not 0 < value < float("inf"):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {value:g} is not positive and finite. Give a positive number or leave it out")


def devices() -> dict[str, dict[str, float]]:
    """Memory and peak rates of each known device, by its name."""
    rates: dict[str, dict[str, float]] = yaml.safe_load((files("lit_prm.commands.plan") / "devices.yaml").read_text())
    return rates


def plan(given: argparse.Namespace, overrides: Sequence[str]) -> Plan:
    """The plan of an experiment; ``given`` holds the command's own arguments."""
    import torch

    from lit_prm.commands.lightning import resolved_config
    from lit_prm.commands.plan.lengths import lengths_of
    from lit_prm.commands.plan.memory import memory
    from lit_prm.commands.plan.network import config_of, weights
    from lit_prm.commands.plan.remedies import remedies
    from lit_prm.commands.plan.setup_of import setup_of
    from lit_prm.commands.plan.work import flops_of

    resolved = yaml.safe_load(resolved_config(options(given.name, given.scale, 0, overrides)))
    accelerator = resolved["trainer"].get("accelerator") or "auto"
    on_gpu = torch.cuda.is_available() if accelerator == "auto" else accelerator in ("gpu", "cuda")
    setup = setup_of(resolved, on_gpu=on_gpu)
    device = given.device or ("h100" if on_gpu else "cpu")
    rates = devices()[device]
    available = round((given.memory or rates["memory"]) * 1e9)
    config, source = config_of(setup.policy, given.shape)
    counted = weights(config, word_head=setup.word_head, adapter=setup.adapter)
    known = {name: getattr(given, name) for name in ("problems", "prompt_tokens", "response_tokens")}
    lengths = lengths_of(resolved["data"], setup, {name: number for name, number in known.items() if number})

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
    from lit_prm.commands.plan.sharding import Whole, Zero

    configured = setup.sharding
    zero = replace(configured, offload=False) if isinstance(configured, Zero) else Zero(3)
    every = [Whole(), *(replace(zero, stage=stage) for stage in (1, 2, 3) if setup.ranks > 1)]
    return {of.strategy: of for of in (replace(setup, sharding=s) for s in (configured, *every))}
