"""The `plan` command: what an experiment would need at a scale, without loading a weight."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from lit_prm.commands.experiment import OVERRIDES, config_files, options

if TYPE_CHECKING:
    from lit_prm.commands.plan.lengths import EpochLengths
    from lit_prm.commands.plan.memory import Memory
    from lit_prm.commands.plan.setup import Setup
from lit_prm.commands.plan.plan import Plan

# Share of a device's peak that is reached: what dense decoders of these sizes are commonly trained at on GPUs with
# flash attention. An assumption, not measured by us; on a CPU the "peak" itself is a measured rate of such products.
MFU = 0.4


def main(args: Sequence[str]) -> None:
    """`plan NAME [--scale S] [overrides of any option]`; status 1 if it does not fit."""
    known, overrides = arguments().parse_known_args(list(args))
    config_files(known.name, known.scale)  # a wrong name is told before torch is loaded
    _refuse_signs(known)
    made = plan(known, overrides)
    if known.json:
        print(json.dumps(made.numbers, indent=1))
    else:
        from lit_prm.commands.plan.show import show

        show(made)
    if not made.numbers["fits"]:
        raise SystemExit(1)


def arguments() -> argparse.ArgumentParser:
    """What the command takes beside overrides."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_prm plan", allow_abbrev=False, epilog=f"{OVERRIDES} Ends with status 1 if it does not fit."
    )
    parser.add_argument("name", metavar="NAME", help="file stem in experiments/")
    parser.add_argument("--scale", default="tiny", help="file stem in experiments/scale/")
    parser.add_argument("--shape", help="a config.json, a folder with one, or a known model, in place of base_model's")
    parser.add_argument(
        "--device", choices=sorted(devices()), help="default: h100 where the scale wants GPUs, else cpu"
    )
    parser.add_argument("--memory", type=float, metavar="GB", help="of one device; default: that of --device")
    parser.add_argument("--peak", type=float, metavar="TFLOP/S", help="of one device; default: that of --device")
    parser.add_argument(
        "--mfu", type=float, default=MFU, help="share of the peak that is reached (%(default)s: assumed)"
    )
    for name, what in (("problems", "to train on"), ("prompt-tokens", "of each"), ("response-tokens", "of each")):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{what}, in place of what the files say")
    parser.add_argument("--json", action="store_true", help="print the numbers alone")
    return parser


def _refuse_signs(asked: argparse.Namespace) -> None:
    if not 0 < asked.mfu <= 1:
        raise ValueError(f"--mfu {asked.mfu} is no share of the peak; give a number above 0, at most 1")
    for name in ("memory", "peak", "problems", "prompt_tokens", "response_tokens"):
        value = getattr(asked, name)
        if value is not None and not 0 < value < float("inf"):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {value:g} is no amount above 0; give how much there is, or leave it out")


def devices() -> dict[str, dict[str, float]]:
    """Memory and peak rates by name of the device."""
    found: dict[str, dict[str, float]] = yaml.safe_load((files("lit_prm.commands.plan") / "devices.yaml").read_text())
    return found


def plan(asked: argparse.Namespace, overrides: Sequence[str]) -> Plan:
    """The plan of the experiment whose name, scale and options were asked for."""
    import torch

    from lit_prm.commands.lightning import resolved_config
    from lit_prm.commands.plan.lengths import lengths_of
    from lit_prm.commands.plan.memory import memory
    from lit_prm.commands.plan.network import config_of, weights
    from lit_prm.commands.plan.remedies import remedies
    from lit_prm.commands.plan.setup import setup_of
    from lit_prm.commands.plan.work import work_of

    resolved = yaml.safe_load(resolved_config(options(asked.name, asked.scale, 0, overrides)))
    accelerator = resolved["trainer"].get("accelerator") or "auto"
    on_gpu = torch.cuda.is_available() if accelerator == "auto" else accelerator in ("gpu", "cuda")
    setup = setup_of(resolved, on_gpu=on_gpu)
    device = asked.device or ("h100" if on_gpu else "cpu")
    rates = devices()[device]
    available = round((asked.memory or rates["memory"]) * 1e9)
    config, source = config_of(setup.policy, asked.shape)
    counted = weights(config, word_head=setup.word_head, adapter=setup.adapter)
    lengths = lengths_of(resolved["data"], setup, _given(asked))

    def needed(of: Setup) -> Memory:
        return memory(config, counted, of, lengths.longest(of))

    alternatives = {name: needed(of) for name, of in _alternatives(setup).items()}
    needs = needed(setup)
    peak = asked.peak or rates["32" if setup.computes_in == torch.float32 else "bf16"]
    work = work_of(config, setup, lengths)
    hours = work.total / (setup.ranks * peak * 1e12 * asked.mfu * 3600)
    numbers = {
        "name": asked.name,
        "scale": asked.scale,
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
        "tokens_per_epoch": lengths.tokens,
        "updates": min(lengths.updates * setup.epochs, setup.most_updates or math.inf),
        "longest_micro_batch_tokens": lengths.longest(setup).tokens,
        "store_bytes": _store(setup, lengths),
        "flops": asdict(work) | {"total": work.total},
        "labels_steps": bool(resolved["data"].get("labeler")),
        "mfu": asked.mfu,
        "peak_tflops": peak,
        "hours": hours,
        "memory": {name: _bytes(m) for name, m in alternatives.items()},
        "available": available,
        "fits": needs.peak <= available,
    }
    if not numbers["fits"]:
        found = remedies(setup, available, lambda of: needed(of).peak, lengths.problems)
        numbers["remedies"] = None if found is None else [f"{option} {value}" for option, value in found.items()]
    title = f"{asked.name} at {asked.scale}"
    return Plan(title, _facts(numbers), numbers, alternatives, needs, available, _verdict(numbers, needs))


def _store(setup: Setup, lengths: EpochLengths) -> int:
    """Bytes on disk of the reference's log-probs of what is trained on; what is judged comes on top."""
    readings = 2 if setup.mismatched else 1  # behind its own prompt and behind another
    return 0 if setup.filled_by == "nobody" else readings * lengths.store


def _verdict(n: dict[str, Any], needs: Memory) -> list[str]:
    available = n["available"]
    of = f"of {available / 1e9:.0f} GB"
    if n["fits"]:
        return [f"fits: {needs.peak / 1e9:.1f} {of}"]
    found = n["remedies"]
    told = f"with this it does:\n  {' '.join(found)}" if found else f"take a smaller model or more memory{_instead(n)}"
    return [f"does not fit: {needs.peak / 1e9:.1f} {of}; {told}"]


def _instead(n: dict[str, Any]) -> str:
    """Another training that needs less, where all weights are trained."""
    whole = n["trained_parameters"] == n["parameters"]
    return ", or train an adapter alone (--model.reward_model lit_prm.models.adapters.LoRAReward)" if whole else ""


def _bytes(memory: Memory) -> dict[str, int]:
    return memory.parts | {"total": memory.total, "filling": memory.filling, "host": memory.on_host}


def _alternatives(setup: Setup) -> dict[str, Setup]:
    """The same under every strategy without offload; the configured one, if it is another, first."""
    from lit_prm.commands.plan.sharding import Whole, Zero

    given = setup.sharding
    zero = replace(given, offload=False) if isinstance(given, Zero) else Zero(3)
    every = [Whole(), *(replace(zero, stage=stage) for stage in (1, 2, 3) if setup.ranks > 1)]
    return {of.strategy: of for of in (replace(setup, sharding=s) for s in (given, *every))}


def _given(asked: argparse.Namespace) -> dict[str, int]:
    """What is said of the data in place of what the files say."""
    said = {"problems": asked.problems, "prompt": asked.prompt_tokens, "response": asked.response_tokens}
    return {name: number for name, number in said.items() if number}


def _facts(n: dict[str, Any]) -> dict[str, str]:
    """The lines above the tables."""
    flops = n["flops"]
    return {
        "model": f"{n['model']}, shape from {n['shape_from']}",
        "parameters": f"{n['parameters']:,}, of which {n['trained_parameters']:,} are trained",
        "devices": f"{n['devices']} x {n['device']}" + (f" on {n['nodes']} nodes" if n["nodes"] > 1 else "")
        + f", {n['strategy']}, {n['precision']}",
        "lengths": n["lengths_from"],
        "data": f"{n['responses']:,} responses, {n['tokens_per_epoch']:,} tokens an epoch "
        f"({n['prompt_tokens']:,} of prompts)",
        "updates": f"{n['updates']:,}; the longest micro-batch has {n['longest_micro_batch_tokens']:,} positions",
        "reference store": f"{n['store_bytes'] / 1e9:.2f} GB on disk of training data" if n["store_bytes"] else "none",
        "FLOPs": f"{flops['total']:.2e}: training {flops['training']:.2e}, recomputed {flops['recomputed']:.2e}, "
        f"reference {flops['reference']:.2e}",
        "time": f"{n['hours']:.2g} hours at {n['mfu']:.0%} of {n['peak_tflops']:g} TFLOP/s a device, "
        + ("evaluation and the labelling of steps left out" if n["labels_steps"] else "evaluation left out"),
    }  # fmt: skip
