"""Which changes make a setup fit that needs more memory than a device has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from lit_prm.plan.setup import Setup
from lit_prm.plan.sharding import Zero

Peak = Callable[[Setup], int]


def remedies(setup: Setup, available: int, peak: Peak) -> list[str] | None:
    """Options to add, the cheapest first; one if one suffices, else as few in this order as do; None if none do."""
    for option, changed in _changes(setup):
        if peak(changed) <= available:
            return [option]
    taken: list[str] = []
    for option, changed in _after_each_other(setup, peak):
        taken.append(option)
        if peak(changed) <= available:
            return taken
    return None


def _after_each_other(setup: Setup, peak: Peak) -> Iterator[tuple[str, Setup]]:
    """Changes that each lower the peak behind those before."""
    tried: set[str] = set()
    while found := next((c for c in _changes(setup) if c[0] not in tried), None):
        option, changed = found
        tried.add(option)
        if peak(changed) < peak(setup):
            yield option, changed
            setup = changed


def _changes(setup: Setup) -> Iterator[tuple[str, Setup]]:
    """What may be changed, by what it costs: nothing, a third of the time, traffic, long responses, the host, money."""
    sharding = setup.sharding
    if setup.reference == "live":
        yield "--model.reference Stored", replace(setup, reference="stored")
    if setup.reference != "none" and setup.reference_dtype == torch.float32:
        yield "--model.reference.init_args.dtype bfloat16", replace(setup, reference_dtype=torch.bfloat16)
    problems = setup.batch_size // setup.responses
    if (most := problems // setup.ranks) > setup.accumulate:
        yield f"--trainer.accumulate_grad_batches {most}", replace(setup, accumulate=most)
    if isinstance(sharding, Zero) and sharding.stage == 3 and sharding.sub_group > 10**8:
        smaller = replace(sharding, sub_group=10**8)
        yield "--trainer.strategy.init_args.sub_group_size 100000000", replace(setup, sharding=smaller)
    if not setup.checkpointing:
        option = "--model.reward_model.init_args.gradient_checkpointing true"
        yield option, replace(setup, checkpointing=True)
    stage = sharding.stage if isinstance(sharding, Zero) else 1
    if setup.ranks > 1 and stage < 3:
        for more in range(stage + 1, 4):
            changed = replace(sharding, stage=more) if isinstance(sharding, Zero) else Zero(more)
            yield f"--trainer.strategy deepspeed_stage_{more}", replace(setup, sharding=changed)
    for shorter in (4096, 2048, 1024):
        if setup.max_length > shorter:
            yield f"--data.max_length {shorter}", replace(setup, max_length=shorter)
    if isinstance(sharding, Zero) and not sharding.offload:
        option = "--trainer.strategy.init_args.offload_optimizer true"
        yield option, replace(setup, sharding=replace(sharding, offload=True))
    for times in (2, 4):
        option = f"--trainer.num_nodes {times * setup.nodes}"
        if problems >= times * setup.cuts:
            yield option, replace(setup, nodes=times * setup.nodes, ranks=times * setup.ranks)
