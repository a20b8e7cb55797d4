"""Estimates over seeds and problems: a hierarchical bootstrap, means of seeds, p values, Holm's correction."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lit_prm.evaluation.estimate import Estimate

Key = tuple[int, str]  # a seed and a problem it was judged on
Values = Mapping[Key, float]
Floats = NDArray[np.float64]
K = TypeVar("K", bound=Hashable)


class Difference(NamedTuple):
    """The difference of two experiments on the same problems of the same seeds, and its two-sided p value."""

    estimate: Estimate
    p: float


def of_independent(per_seed: Sequence[Estimate], worlds: Sequence[str] = ()) -> Estimate:
    """Mean over seeds; its interval is that of a mean of independent seeds.

    Seeds of one of the ``worlds`` were judged on the same data. They are not independent: more of them make the
    interval no narrower. Without ``worlds`` every seed has data of its own.
    """
    mean = fmean(one.mean for one in per_seed)
    of_world = defaultdict[str, float](float)
    for world, one in zip(worlds or map(str, range(len(per_seed))), per_seed, strict=True):
        of_world[world] += one.half
    half = math.hypot(*of_world.values()) / len(per_seed)
    return Estimate(mean, mean - half, mean + half)


def shares(per_set: Sequence[Mapping[K, float]]) -> dict[K, float]:
    """Each problem's contribution to the mean of the sets' means: the mean of the shares is that mean.

    A problem that is in several sets is one problem, resampled with all of them; sets of any size count alike.
    """
    means = [fmean(values.values()) for values in per_set]
    keys = dict.fromkeys(key for values in per_set for key in values)  # in order
    mean = fmean(means)
    contributions = dict.fromkeys(keys, mean)
    for values, of_set in zip(per_set, means, strict=True):
        for key, value in values.items():
            contributions[key] += (value - of_set) * len(keys) / len(values) / len(per_set)
    return contributions


class Resamples:
    """Draws of a hierarchical bootstrap: seeds with replacement, then problems with replacement within each seed.

    ``worlds`` names the data of every seed. Seeds judged on the same problems (one world) share each draw of problems.
    Where every seed has problems of its own, each drawn seed draws its problems anew. With one seed the draws are those
    of ``intervals.bootstrap_interval``. Equal problems give equal draws, so differences of experiments are paired.
    """

    def __init__(self, cells: Sequence[Key], worlds: Mapping[int, str], samples: int = 2000) -> None:
        rng = np.random.default_rng(0)
        self._problems = {s: tuple(p for seed, p in cells if seed == s) for s in sorted({s for s, _ in cells})}
        groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for seed, problems in self._problems.items():
            groups.setdefault((worlds.get(seed, f"seed {seed}"), problems), []).append(seed)
        self._samples = samples
        self._drawn = list[tuple[list[int], Floats, Floats]]()  # seeds; how often each problem, each seed was drawn
        alone = len(groups) == 1  # these draws come first: so are those of bootstrap_interval
        first = _redrawn(rng, len(self._problems[min(self._problems)]), samples) if alone else None
        n = len(self._problems)
        of_seed = dict(zip(self._problems, rng.multinomial(n, [1 / n] * n, size=samples).T, strict=True))
        for (_, problems), seeds in groups.items():
            times = np.stack([of_seed[s] for s in seeds], 1)  # [B, seeds of this world]
            if len(seeds) == 1 and not alone:
                size = len(problems)
                anew = rng.multinomial(times[:, 0] * size, [1 / size] * size).astype(float)
                self._drawn.append((seeds, anew, np.ones((samples, 1))))
            else:
                counts = first if first is not None else _redrawn(rng, len(problems), samples)
                self._drawn.append((seeds, counts, times.astype(float)))

    def means(self, values: Values) -> Floats:
        """[B]: the mean over seeds of their means over problems, in every draw."""
        total = np.zeros(self._samples)
        for seeds, counts, times in self._drawn:
            problems = self._problems[seeds[0]]
            of_seeds = np.array([[values[s, p] for p in problems] for s in seeds])  # [seeds, P]
            total += ((counts @ of_seeds.T) * times).sum(1) / len(problems)
        return total / len(self._problems)

    def estimate(self, values: Values) -> Difference:
        """The mean in percent with its percentile interval, and the p value of the hypothesis that the mean is 0.

        p is that of a normal with the standard deviation of the draws. The share of draws beyond 0 could not fall below
        one in their number, but Holm's correction of many pairs needs smaller p values.
        """
        mean = fmean(fmean(values[s, p] for p in problems) for s, problems in self._problems.items())
        if len(values) < 2:
            return Difference(Estimate(mean, math.nan, math.nan).scaled(), math.nan)
        drawn = self.means(values)
        low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
        return Difference(Estimate(mean, low, high).scaled(), p_value(mean, float(drawn.std())))


def _redrawn(rng: Any, size: int, samples: int) -> Floats:
    """[B, P]: how often each problem is in a draw of P of them."""
    drawn = rng.integers(size, size=(samples, size)) + size * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * size).reshape(samples, size).astype(float)


def p_value(mean: float, deviation: float) -> float:
    """Two-sided p value of ``mean`` under a normal around 0; 1 for a mean of 0."""
    if abs(mean) < 1e-12:
        return 1.0
    return math.erfc(abs(mean) / (deviation * math.sqrt(2))) if deviation > 1e-15 else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of one family: at 0.05, 95 % of families have no false positive; nan stays nan."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted, least = list(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted
