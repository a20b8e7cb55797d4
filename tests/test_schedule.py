from __future__ import annotations

import math

import pytest
import torch

from lit_prm.training.schedule import WarmupCosine, paper_adamw


@pytest.mark.parametrize(("warmup", "total"), [(0.03, 100), (0.03, 1), (0.1, 7), (0.5, 12), (0.0, 5)])
def test_the_rate_rises_in_a_line_to_the_peak_and_never_rises_again(warmup: float, total: int) -> None:
    rates = [WarmupCosine(warmup, 0.1).factor(u, total) for u in range(total)]
    rising = math.ceil(warmup * total)
    assert rates[:rising] == pytest.approx([(u + 1) / rising for u in range(rising)])
    assert max(rates) == 1.0
    assert rates[rising:] == sorted(rates[rising:], reverse=True)
    assert all(0.1 <= rate <= 1 for rate in rates[rising:])


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_it_ends_at_the_floor_and_is_half_way_at_half_time(floor: float) -> None:
    schedule = WarmupCosine(0.0, floor)
    assert [schedule.factor(u, 10) for u in (10, 11, 99)] == pytest.approx([floor] * 3)
    assert schedule.factor(5, 10) == pytest.approx((1 + floor) / 2)
    assert schedule.factor(0, 10) == 1


def test_golden_values_of_the_paper_setting() -> None:
    """0.1 + 0.9 (1 + cos(pi t)) / 2 at t = 0, 1/3, 2/3 after a warm-up of 3 updates of 100."""
    schedule = WarmupCosine(0.03, 0.1)
    assert schedule.factor(0, 100) == pytest.approx(1 / 3)
    assert schedule.factor(3, 99) == 1
    assert schedule.factor(35, 99) == pytest.approx(0.775)
    assert schedule.factor(67, 99) == pytest.approx(0.325)


def test_an_optimizer_follows_it() -> None:
    optimizer = paper_adamw([torch.nn.Parameter(torch.zeros(1))])
    schedule = WarmupCosine(0.2, 0.1)
    scheduler = schedule(optimizer, 10)
    for update in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(5e-7 * schedule.factor(update, 10))
        optimizer.step()
        scheduler.step()


def test_paper_adamw_is_the_papers() -> None:
    group = paper_adamw([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (5e-7, (0.9, 0.95), 0.0)


@pytest.mark.parametrize(("warmup", "floor"), [(1.0, 0.1), (-0.1, 0.1), (0.1, 1.1), (3, 0.1)])
def test_shares_outside_their_range_are_refused(warmup: float, floor: float) -> None:
    with pytest.raises(ValueError, match=r"are shares: warmup in \[0, 1\), floor in \[0, 1\]"):
        WarmupCosine(warmup, floor)
