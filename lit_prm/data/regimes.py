"""The data regime: a seeded choice of problems and responses, and changes such as balancing or de-duplication."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from lit_prm.data.records import Group, Rollout

Others = Callable[[str], Sequence[Group]]  # the groups of another training file, by its name in data.files


def subsample(
    groups: Sequence[Group], *, fraction_of_problems: float, responses_per_problem: int | None, seed: int
) -> list[Group]:
    """Choose a fraction of the problems and at most ``responses_per_problem`` responses of each, in the order given.

    The choices are nested: a smaller fraction or number chooses a subset of a larger one. They depend on seed, problem
    id and response index alone, not on the order of the problems or on each other. A problem with fewer responses
    keeps them all.
    """
    if not 0 < fraction_of_problems <= 1:
        raise ValueError(
            f"fraction {fraction_of_problems} of the problems is not in (0, 1]. Set data.fraction to 0.1, for example."
        )
    _refuse_impossible(groups, responses_per_problem)
    count = max(round(fraction_of_problems * len(groups)), 1)
    order = sorted(range(len(groups)), key=lambda i: (draw(seed, groups[i].problem.id), i))
    chosen = [groups[i] for i in sorted(order[:count])]
    if responses_per_problem is None:
        return chosen
    return [g.keep(_drawn(len(g.rollouts), responses_per_problem, seed, g.problem.id)) for g in chosen]


def _refuse_impossible(groups: Sequence[Group], responses: int | None) -> None:
    if responses is None or not groups:
        return
    if responses < 1:
        raise ValueError(f"{responses} responses per problem are less than one. Set data.responses to 1 or more.")
    most = max(len(group.rollouts) for group in groups)
    if responses > most:
        raise ValueError(
            f"all {len(groups)} problems have fewer than {responses} responses, the most is {most}. "
            f"Set data.responses to {most} or less."
        )


def _drawn(size: int, count: int, *facts: object) -> list[int]:
    """``count`` of the numbers below ``size``, in ascending order; the draw depends on ``facts`` alone."""
    return sorted(sorted(range(size), key=lambda i: draw(*facts, i))[:count])


def draw(*facts: object) -> bytes:
    """A pseudo-random number that depends on ``facts`` alone, equal on every machine."""
    return hashlib.sha256(repr(facts).encode()).digest()


class Regime(ABC):
    """Base of changes to the chosen training data; the result depends on the arguments alone."""

    @abstractmethod
    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        """The changed groups, in the order given; ``others(name)`` gives the groups of another training file."""


class Balanced(Regime):
    """Equally many right and wrong responses, over the data set or ``within`` every problem (the paper's Table 1).

    Responses of the larger class are dropped at random by seed. Problems left without responses are dropped; within
    problems these are the problems whose responses are all right or all wrong.
    """

    def __init__(self, within: Literal["dataset", "problem"]) -> None:
        if within not in ("dataset", "problem"):
            raise ValueError(f"within {within!r} is neither 'dataset' nor 'problem'. Give one of them.")
        self.within = within

    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        parts = [groups] if self.within == "dataset" else [[group] for group in groups]
        balanced = [group for part in parts for group in _balanced(part, seed)]
        if groups and not balanced:
            labels = [r.correct for g in groups for r in g.rollouts]
            raise ValueError(
                f"{labels.count(True)} right and {labels.count(False)} wrong responses leave none when balanced within "
                f"the {self.within}. Choose more with data.responses, or train without this regime."
            )
        return balanced


def _balanced(groups: Sequence[Group], seed: int) -> list[Group]:
    places = [(i, k) for i, group in enumerate(groups) for k in range(len(group.rollouts))]
    places.sort(key=lambda place: draw(seed, "balanced", groups[place[0]].problem.id, place[1]))
    right, wrong = ([(i, k) for i, k in places if groups[i].rollouts[k].correct is side] for side in (True, False))
    size = min(len(right), len(wrong))
    kept = {*right[:size], *wrong[:size]}
    left = [group.keep(k for k in range(len(group.rollouts)) if (i, k) in kept) for i, group in enumerate(groups)]
    return [group for group in left if group.rollouts]


class Deduplicated(Regime):
    """Drops responses that mostly repeat an earlier response of their problem.

    A response is dropped if more than ``threshold`` of its distinct n-grams of ``ngram`` words also occur in one
    earlier response that was kept. A word is a run of letters and digits, or one other character; a response of fewer
    words is one n-gram. Labels play no role. A threshold of 1 keeps all responses. The paper removes repetition by
    8-grams and names no threshold.
    """

    def __init__(self, ngram: int = 8, threshold: float = 0.5) -> None:
        if ngram < 1:
            raise ValueError(f"ngram is {ngram}, and an n-gram has at least one word. Give ngram >= 1.")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold {threshold} is not a share of n-grams. Give a number in [0, 1].")
        self.ngram = ngram
        self.threshold = threshold

    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        return [group.keep(self._distinct(group.rollouts)) for group in groups]

    def _distinct(self, rollouts: Sequence[Rollout]) -> list[int]:
        kept: dict[int, set[tuple[str, ...]]] = {}
        for i, rollout in enumerate(rollouts):
            grams = self._grams(rollout.response)
            if all(len(grams & earlier) <= self.threshold * len(grams) for earlier in kept.values()):
                kept[i] = grams
        return list(kept)

    def _grams(self, text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+|[^\w\s]", text)
        return {tuple(words[i : i + self.ngram]) for i in range(max(len(words) - self.ngram + 1, 1))}


class Mixed(Regime):
    """Replaces a ``share`` of each problem's responses, rounded down, by responses of the file ``source``.

    The replaced and the new responses are chosen by seed. Problems of the two files are matched by their text, because
    ids are row numbers in many files.
    """

    def __init__(self, source: str, share: float = 0.5) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share {share} of the responses is not in (0, 1]. Give 0.5 for half of them.")
        self.source = source
        self.share = share

    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        by_text = {group.problem.text: group.rollouts for group in others(self.source)}
        return [self._mixed(group, by_text.get(group.problem.text, ()), seed) for group in groups]

    def _mixed(self, group: Group, new: Sequence[Rollout], seed: int) -> Group:
        name, rollouts = group.problem.id, list(group.rollouts)
        count = int(round(self.share * len(rollouts), 6))  # 0.29 * 100 is 28.999999999999996
        if len(new) < count:
            raise ValueError(
                f"problem {name!r} has {len(new)} responses in {self.source!r}, but {self.share} of its "
                f"{len(rollouts)} responses are {count}. Sample more there, or lower the share or data.responses."
            )
        replaced = _drawn(len(rollouts), count, seed, "replaced", name)
        taken = _drawn(len(new), count, seed, "taken", name)
        for i, j in zip(replaced, taken, strict=True):
            rollouts[i] = new[j]
        return replace(group, rollouts=tuple(rollouts))


class Added(Regime):
    """Appends the groups of other files; the name of the file is put before their ids."""

    def __init__(self, sources: list[str]) -> None:
        if not sources or len(set(sources)) < len(sources):
            raise ValueError(f"sources {sources} are empty or name a file twice. Name each file to add once.")
        self.sources = sources

    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        more = [(name, group) for name in self.sources for group in others(name)]
        named = [replace(g, problem=replace(g.problem, id=f"{name}/{g.problem.id}")) for name, g in more]
        return [*groups, *named]
