"""Changes of options that make a setup fit into a device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from lit_prm.commands.plan.setup import Setup
from lit_prm.commands.plan.setup_of import ZERO
from lit_prm.commands.plan.sharding import Sharding, Zero

Peak = Callable[[Setup], int]
Options = dict[str, str]  # of the command line, with their values


def remedies(setup: Setup, available: int, peak: Peak, problems: int) -> Options | None:
    """The cheapest options that make the setup fit; None if nothing does.

    These are the options of one change if one is enough, else of several changes in the order of their cost.
    ``problems`` is the number of problems in the smallest update.
    """
    for options, changed in _changes(setup, problems):
        if peak(changed) <= available:
            return options
    taken: Options = {}
    while change := _next(setup, peak, problems):
        options, setup = change
        taken |= options
        if peak(setup) <= available:
            return taken
    return None


def _next(setup: Setup, peak: Peak, problems: int) -> tuple[Options, Setup] | None:
    """The cheapest change that lowers the peak; a change can lower it after another one although it did not before."""
    needs = peak(setup)
    return next((change for change in _changes(setup, problems) if peak(change[1]) < needs), None)


def _changes(setup: Setup, problems: int) -> Iterator[tuple[Options, Setup]]:
    """Possible changes, cheapest first: free, a third of the time, traffic, long responses cut, host memory, nodes."""
    yield from _of_reference(setup)
    if (most := problems // setup.ranks) > setup.accumulate:
        yield {"--trainer.accumulate_grad_batches": str(most)}, replace(setup, accumulate=most)
    sharding = setup.sharding
    if isinstance(sharding, Zero) and sharding.stage == 3 and sharding.sub_group > 10**8:
        yield _option("sub_group_size", 10**8), replace(setup, sharding=replace(sharding, sub_group=10**8))
    if not setup.checkpointing:
        option = {"--model.reward_model.init_args.gradient_checkpointing": "true"}
        yield option, replace(setup, checkpointing=True)
    for options, cut in _more_cut(sharding) if setup.ranks > 1 else ():
        yield options, replace(setup, sharding=cut)
    for shorter in (4096, 2048, 1024):
        if setup.max_length > shorter:
            yield {"--data.max_length": str(shorter)}, replace(setup, max_length=shorter)
    if isinstance(sharding, Zero) and not sharding.offload:
        options = _option("offload_optimizer", "true") | {"--model.optimizer": "deepspeed.ops.adam.DeepSpeedCPUAdam"}
        yield options, replace(setup, sharding=replace(sharding, offload=True))
    for nodes in (2 * setup.nodes, 4 * setup.nodes):
        ranks = setup.ranks // setup.nodes * nodes
        if problems >= setup.accumulate * ranks:
            yield {"--trainer.num_nodes": str(nodes)}, replace(setup, nodes=nodes, ranks=ranks)


def _of_reference(setup: Setup) -> Iterator[tuple[Options, Setup]]:
    """Changes of the reference: store its log-probs, let the policy fill the store, or load it in bfloat16."""
    if setup.reference == "live":
        path = {"--model.reference": "Stored", "--model.reference.init_args.path": ".cache/reference/store.sqlite"}
        yield path, replace(setup, reference="stored", filled_by="reference")
    if setup.filled_by == "reference" and setup.policy_may_fill:
        yield {"--model.reference.init_args.from_policy": "true"}, replace(setup, filled_by="policy")
    loaded = setup.reference == "live" or setup.filled_by == "reference"
    smaller = replace(setup, reference_dtype=torch.bfloat16)
    if loaded and smaller.reference_in != setup.reference_in:
        yield {"--model.reference.init_args.dtype": "bfloat16"}, smaller


def _more_cut(sharding: Sharding) -> Iterator[tuple[Options, Sharding]]:
    """Higher stages of ZeRO."""
    cut, options = (sharding, {}) if isinstance(sharding, Zero) else (Zero(0), {"--trainer.strategy": ZERO})
    for stage in range(cut.stage + 1, 4):
        yield options | _option("stage", stage), replace(cut, stage=stage)


def _option(name: str, value: object) -> Options:
    """Of the strategy."""
    return {f"--trainer.strategy.init_args.{name}": str(value)}
