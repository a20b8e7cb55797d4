"""What a device keeps under each strategy, against the bytes per weight of the ZeRO paper."""

from __future__ import annotations

import pytest
import torch

from lit_prm.commands.plan.network import Weights
from lit_prm.commands.plan.sharding import Optimizing, Sharding, Trained, Whole, Zero
from lit_prm.commands.plan.trace import Optimized

N, RANKS = 64_000_000, 8
WEIGHTS = Weights(N, N, 1_000_000)


def adam(size: int, dtype: torch.dtype) -> Optimized:
    return Optimized(2 * size * dtype.itemsize, size * dtype.itemsize)


OPTIMIZING: Optimizing = adam


@pytest.mark.parametrize(
    ("sharding", "per_weight"),
    [
        (Whole(), 4 + 4 + 8),
        (Zero(1), 2 + 2 + 12 / RANKS),
        (Zero(2), 2 + (2 + 12) / RANKS),
        (Zero(3), (2 + 2 + 12) / RANKS),
        (Zero(3, offload=True), (2 + 2) / RANKS),
    ],
)
def test_bytes_of_a_weight(sharding: Sharding, per_weight: float) -> None:
    """Mixed precision with Adam, as section 3 of Rajbhandari et al. counts them; DDP's weights are float32 here."""
    dtype = torch.bfloat16 if sharding.has_masters else torch.float32
    found = sharding.spread(Trained(WEIGHTS, dtype, RANKS, OPTIMIZING, on_gpu=True))
    assert found.weights + found.gradients + found.optimizer == per_weight * N


def test_an_offloaded_optimizer_lies_on_the_host_with_its_gradients() -> None:
    found = Zero(3, offload=True).spread(Trained(WEIGHTS, torch.bfloat16, RANKS, OPTIMIZING, on_gpu=True))
    assert (found.on_host, found.update) == (16 * N // RANKS, 0)


def test_sub_groups_bound_the_update_of_stage_3_alone() -> None:
    model = Trained(WEIGHTS, torch.bfloat16, RANKS, adam, on_gpu=True)
    update = {stage: Zero(stage, sub_group=10).spread(model).update for stage in (2, 3)}
    assert update == {2: 8 * N // RANKS, 3: 80}


def test_before_its_first_update_a_plain_optimizer_has_nothing_and_an_engine_all() -> None:
    for sharding, at_start in ((Whole(), 4 + 4), (Zero(2, bucket=1, buckets=0), 2 + (2 + 12) / RANKS)):
        dtype = torch.bfloat16 if sharding.has_masters else torch.float32
        assert sharding.spread(Trained(WEIGHTS, dtype, RANKS, adam, on_gpu=True)).at_start == at_start * N


def test_frozen_weights_have_a_type_of_their_own() -> None:
    adapted = Weights(N + 100, 100, 1000)
    found = Whole().spread(Trained(adapted, torch.float32, 1, adam, on_gpu=True, frozen_dtype=torch.bfloat16))
    assert (found.weights, found.gradients, found.optimizer) == (2 * N + 400, 400, 800)


def test_one_device_sends_nothing_and_two_keep_buckets() -> None:
    one = Trained(WEIGHTS, torch.float32, 1, adam, on_gpu=True)
    assert Whole().spread(one).communication == 0
    assert Whole().spread(one._replace(ranks=2)).communication == 4 * N
    halves = one._replace(dtype=torch.bfloat16, ranks=2)
    assert Zero(2, bucket=1000).spread(halves).communication == 2 * 2 * 1000


def test_a_cpu_updates_one_weight_after_the_other() -> None:
    found = [Whole().spread(Trained(WEIGHTS, torch.float32, 1, adam, on_gpu=on)).update for on in (True, False)]
    assert found == [4 * N, 4_000_000]


def test_deepspeed_options_that_are_not_planned_are_refused() -> None:
    assert Zero.of({"stage": 2, "overlap_comm": False}) == Zero(2, buckets=1)
    with pytest.raises(ValueError, match="offload_parameters"):
        Zero.of({"stage": 3, "offload_parameters": True})
