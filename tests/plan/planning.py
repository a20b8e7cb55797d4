"""Plans and setups of the project's own experiments and scales, each made once."""

from __future__ import annotations

from argparse import Namespace
from functools import cache

import yaml

from lit_prm.commands.experiment import options
from lit_prm.commands.lightning import resolved_config
from lit_prm.commands.plan.command import devices
from lit_prm.commands.plan.plan import Plan, plan
from lit_prm.commands.plan.setup import Setup
from lit_prm.commands.plan.setup_of import setup_of

_NOT_ASKED = ("shape", "device", "memory", "peak", "problems", "prompt_tokens", "response_tokens")


LLAMA = "--base_model=meta-llama/Llama-3.1-8B-Instruct"


@cache
def planned(name: str, scale: str, *overrides: str, problems: int | None = None, memory: float | None = None) -> Plan:
    asked = dict.fromkeys(_NOT_ASKED) | {"mfu": 0.4, "name": name, "scale": scale}
    asked |= {"problems": problems, "memory": memory}
    return plan(Namespace(**asked), list(overrides), devices())


@cache
def setup_at(scale: str, *overrides: str) -> Setup:
    return setup_of(yaml.safe_load(resolved_config(options("ce-8resp", scale, 0, overrides))), on_gpu=True)
