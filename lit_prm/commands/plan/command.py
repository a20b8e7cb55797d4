"""The `plan` command: memory, disk, FLOPs and hours of an experiment at a scale, without loading weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib.resources import files

import yaml

from lit_prm.commands.experiment import OVERRIDES, config_files
from lit_prm.scoring.options import CommandParser

# Model FLOPs utilisation: the share of a device's peak rate that training reaches. Dense decoders of these sizes are
# commonly trained at this share on GPUs with flash attention. It is assumed, not measured by us. The "peak" of a CPU
# is a measured rate of matrix products.
MFU = 0.4


def main(args: Sequence[str]) -> None:
    """`plan NAME [--scale S] [OVERRIDES]`; the exit status is 1 if the run does not fit into a device's memory."""
    given, overrides = arguments().parse_known_args(list(args))
    config_files(given.name, given.scale)  # refuses a wrong name before torch is imported
    _refuse_amounts(given)
    from lit_prm.commands.plan.plan import plan
    from lit_prm.commands.plan.show import show

    planned = plan(given, overrides, devices())
    if given.json:
        print(json.dumps(planned.numbers, indent=1))
    else:
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
