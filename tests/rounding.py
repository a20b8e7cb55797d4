"""How far apart two float32 results of one number may be, on any CPU.

Whichever instructions a CPU has, each float32 operation is off by at most half of ``EPS`` times its result. What is
different between CPUs, and between shapes of a batch, is the order of sums and which products are rounded before they
are added. So two correct results, or a result and the truth, are as far apart as their roundings add up to.
"""

from __future__ import annotations

import math

from torch import Tensor

EPS = 2.0**-23  # of float32

# of the random networks of these tests, conftest.small_llama and its like
LAYERS, HIDDEN, HEAD, INTERMEDIATE, VOCABULARY = 2, 32, 8, 64, 600


def largest(numbers: Tensor) -> float:
    return float(numbers.detach().abs().max())


def float32_bound(roundings: int, magnitude: float) -> float:
    """Of two results of ``roundings`` operations one after the other, no number on the way above ``magnitude``.

    Each is off by at most roundings * EPS / 2 * magnitude; the two are apart by at most twice that.
    """
    return roundings * EPS * magnitude


def network_bound(tokens: int, magnitude: float, *, gradient: bool = False) -> float:
    """Of two log-probs, values or gradients of up to ``magnitude`` of a random network that runs on ``tokens`` tokens.

    The longest chain of sums leads from an embedding to a log-prob: in each layer two norms, two projections in a row
    and the MLP's, scores, softmax and weighted sum; then a norm, the head and the sum of its softmax. A gradient goes
    the chain back as well, and is summed over tokens. Of n roundings some are up and some down, a random walk: each has
    a standard deviation of EPS / sqrt(12) of its number, so two results are apart by sqrt(n / 6) * EPS * magnitude. Ten
    times that allows for what norms and softmaxes amplify; measured against float64 it is two to three times that.
    """
    layer = 2 * HIDDEN + 3 * HIDDEN + INTERMEDIATE + HEAD + 2 * tokens
    chain = LAYERS * layer + 2 * HIDDEN + VOCABULARY
    return 10 * math.sqrt((2 * chain + tokens if gradient else chain) / 6) * EPS * magnitude


def reward_bound(tokens: int, beta: float) -> float:
    """Of two rewards, or prefix values, of a response of ``tokens`` tokens, its prompt's included.

    They are beta times the difference of two sums of log-probs, which are 8 on average at most, and whose errors add up
    as a random walk. One token more or less is hundreds of times as far.
    """
    return network_bound(tokens, 2 * beta * math.sqrt(tokens) * 8)
