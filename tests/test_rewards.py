from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from lit_prm.models.values import log_ratios, prefix_values, response_rewards, step_ends, step_rewards
from tests import reference
from tests.rounding import float32_bound


@st.composite
def responses(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    """Token rewards and non-decreasing step indices, with skipped steps."""
    n = draw(st.integers(1, 12))
    jumps = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    rewards = draw(st.lists(st.floats(-50, 50, width=32), min_size=n, max_size=n))
    return rewards, list(itertools.accumulate(jumps))


@given(responses(), st.integers(0, 4), st.integers(0, 4))
@settings(deadline=None)
def test_step_rewards_telescope_and_equal_sums_over_tokens(
    response: tuple[list[float], list[int]], prompt: int, padding: int
) -> None:
    rewards, steps = response
    step = torch.tensor([[-1] * prompt + steps + [-1] * padding])
    token_rewards = torch.tensor([[0.0] * prompt + rewards + [0.0] * padding])
    values = prefix_values(token_rewards)
    by_step, valid = step_rewards(values, step)
    expected = reference.step_rewards(rewards, steps)
    assert {i for i, ok in enumerate(valid[0].tolist()) if ok} == set(expected)
    # prefixes are summed in float64 and rounded, steps are differences of two, the total is a sum of up to 12 of them
    rounding = float32_bound(2 * len(rewards) + 4, sum(map(abs, rewards)))
    for i, value in expected.items():
        assert math.isclose(by_step[0, i].item(), value, rel_tol=0, abs_tol=float32_bound(4, sum(map(abs, rewards))))
    total = response_rewards(values, torch.tensor([prompt + len(steps)]))
    assert_close(by_step.sum(1), total, rtol=0, atol=rounding)
    assert_close(total.item(), sum(rewards), rtol=0, atol=rounding)


def test_padding_does_not_change_step_rewards() -> None:
    step = torch.tensor([[-1, 0, 0, 1, 3]])
    values = prefix_values(torch.tensor([[0.0, 1.0, 2.0, 4.0, 8.0]]))
    wide = torch.nn.functional.pad(step, (0, 3), value=-1)
    wide_values = prefix_values(torch.tensor([[0.0, 1.0, 2.0, 4.0, 8.0, 0.0, 0.0, 0.0]]))
    assert_close(step_rewards(values, step)[0], step_rewards(wide_values, wide)[0])
    assert step_rewards(values, step)[0].tolist() == [[3.0, 4.0, 0.0, 8.0]]
    assert step_ends(step)[1].tolist() == [[True, True, False, True]]


def test_log_ratios_are_float32_whatever_comes_in() -> None:
    policy = torch.tensor([-3.0, -1000.25], dtype=torch.bfloat16)
    ratios = log_ratios(policy, torch.tensor([-3.0, -1000.0]))
    assert ratios.dtype == torch.float32
    assert ratios[0] == 0


def test_step_rewards_of_a_long_response_keep_float32_accuracy() -> None:
    """8,192 tokens of about -1 each: differences of float32 prefix sums would be wrong in the third digit."""
    generator = torch.Generator().manual_seed(0)
    rewards = -torch.rand(1, 8192, generator=generator) - 0.5
    step = torch.arange(8192).unsqueeze(0) // 16
    got, _ = step_rewards(prefix_values(rewards), step)
    exact = rewards.double().view(1, -1, 16).sum(-1)
    assert (got.double() - exact).abs().max() < 2e-3 * 1e0
    assert abs(got.double().sum().item() - rewards.double().sum().item()) < 1e-3


class TypesOfSums(TorchFunctionMode):
    """Remembers the dtype that every cumulative sum is computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.cumsum:
            self.seen.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


def test_prefix_sums_are_computed_in_float64() -> None:
    """A CPU sums float32 in float64 anyway, so values alone do not show it here."""
    with TypesOfSums() as sums:
        values = prefix_values(torch.ones(2, 3))
    assert sums.seen == [torch.float64]
    assert values.dtype == torch.float32


# --- Proposition 3.1 on a tabular language model, by enumeration -------------------------------------

VOCABULARY, LENGTH, BETA = 3, 4, 0.7


class TabularLM:
    """p(token | prefix) as an explicit table over every prefix of up to LENGTH tokens."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = {
            prefix: torch.log_softmax(torch.randn(VOCABULARY, generator=generator, dtype=torch.float64), 0)
            for n in range(LENGTH)
            for prefix in itertools.product(range(VOCABULARY), repeat=n)
        }

    def logps(self, y: tuple[int, ...]) -> list[float]:
        return [float(self.table[y[:t]][y[t]]) for t in range(len(y))]


def test_value_is_the_soft_expectation_of_the_reward_under_the_reference() -> None:
    policy, ref = TabularLM(0), TabularLM(1)
    whole = list(itertools.product(range(VOCABULARY), repeat=LENGTH))
    policy_logps = torch.tensor([policy.logps(y) for y in whole])
    reference_logps = torch.tensor([ref.logps(y) for y in whole])
    values = prefix_values(BETA * log_ratios(policy_logps, reference_logps))  # [Y, T]
    reward = dict(zip(whole, values[:, -1].tolist(), strict=True))
    # every token's two log-probs, their difference, the product and the sum are rounded, and none is above the worst
    # log-prob of a response; one token's reward is a thousand times that
    rounding = float32_bound(5 * LENGTH, -float(policy_logps.sum(1).min()))
    for y, row in zip(whole, values.tolist(), strict=True):
        for t in range(LENGTH):
            prefix = y[: t + 1]
            expectation = sum(
                math.exp(sum(ref.logps(full)[t + 1 :])) * math.exp(reward[full] / BETA)
                for full in whole
                if full[: t + 1] == prefix
            )
            assert math.isclose(row[t], BETA * math.log(expectation), abs_tol=rounding)
    q0 = BETA * math.log(sum(math.exp(sum(ref.logps(y))) * math.exp(reward[y] / BETA) for y in whole))
    assert abs(q0) < rounding  # no prompt carries an offset


def test_policy_equal_to_reference_gives_zero_rewards() -> None:
    lm = TabularLM(3)
    logps = torch.tensor([lm.logps((0, 1, 2, 0))])
    values = prefix_values(BETA * log_ratios(logps, logps))
    assert values.abs().max() == 0


def test_uniform_reference_gives_the_policys_own_log_prob_up_to_length() -> None:
    lm = TabularLM(4)
    logps = torch.tensor([lm.logps((2, 1, 0, 1))])
    uniform = torch.full_like(logps, -math.log(VOCABULARY))
    value = prefix_values(log_ratios(logps, uniform))[0, -1].item()
    assert math.isclose(value, logps.sum().item() + LENGTH * math.log(VOCABULARY), rel_tol=1e-5)
