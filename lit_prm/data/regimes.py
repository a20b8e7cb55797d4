"""The data regime: a seeded choice of problems and responses, smaller ones inside larger ones, and changes of it."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from lit_prm.data.records import Group, Rollout

Others = Callable[[str], Sequence[Group]]  # reads another file to train on, by its name at this scale


def subsample(
    groups: Sequence[Group], *, fraction_of_problems: float, responses_per_problem: int | None, seed: int
) -> list[Group]:
    """A share of the problems and at most so many responses of each, in the order given.

    Nested: what a smaller fraction or number chooses lies inside what a larger one does. The choice hangs on
    seed, problem id and response index alone, so neither the order of the problems nor the size of the other
    choice changes it. A problem with fewer responses keeps them all.
    """
    if not 0 < fraction_of_problems <= 1:
        raise ValueError(
            f"fraction {fraction_of_problems} of the problems is not in (0, 1]; set data.fraction to, say, 0.1"
        )
    _refuse_impossible(groups, responses_per_problem)
    chosen = _problems(groups, fraction_of_problems, seed)
    if responses_per_problem is None:
        return chosen
    return [group.keep(_responses(group, responses_per_problem, seed)) for group in chosen]


def _refuse_impossible(groups: Sequence[Group], responses: int | None) -> None:
    if responses is None or not groups:
        return
    if responses < 1:
        raise ValueError(f"{responses} responses per problem are less than one; set data.responses to 1 or more")
    most = max(len(group.rollouts) for group in groups)
    if responses > most:
        raise ValueError(
            f"all {len(groups)} problems have fewer than {responses} responses, the most is {most}; "
            f"set data.responses to {most} or less"
        )


def _problems(groups: Sequence[Group], fraction: float, seed: int) -> list[Group]:
    count = max(round(fraction * len(groups)), 1)
    order = sorted(range(len(groups)), key=lambda i: (_draw(seed, groups[i].problem.id), i))
    return [groups[i] for i in sorted(order[:count])]


def _responses(group: Group, count: int, seed: int) -> list[int]:
    return _drawn(len(group.rollouts), count, seed, group.problem.id)


def _drawn(size: int, count: int, *facts: object) -> list[int]:
    """``count`` of the numbers below ``size``, drawn for these facts, in order."""
    return sorted(sorted(range(size), key=lambda i: _draw(*facts, i))[:count])


def _draw(*facts: object) -> bytes:
    """A number drawn for these facts, the same on every machine and in every process."""
    return hashlib.sha256(repr(facts).encode()).digest()


# --- changes of what was chosen --------------------------------------------------------------------


class Regime(ABC):
    """A change of the training data after problems and responses were chosen, decided by its arguments alone."""

    @abstractmethod
    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        """The groups to train on instead, in the order given; ``others(name)`` reads another file of the scale."""


class Balanced(Regime):
    """As many right as wrong responses, over the whole data set or within every problem (the paper's Table 1).

    The larger class loses responses by lot; problems left without responses are gone, within problems those
    whose responses are all right or all wrong.
    """

    def __init__(self, within: Literal["dataset", "problem"]) -> None:
        if within not in ("dataset", "problem"):
            raise ValueError(f"within {within!r} is neither 'dataset' nor 'problem'; balance inside one of them")
        self.within = within

    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        parts = [groups] if self.within == "dataset" else [[group] for group in groups]
        balanced = [group for part in parts for group in _balanced(part, seed)]
        if groups and not balanced:
            labels = [r.correct for g in groups for r in g.rollouts]
            raise ValueError(
                f"{labels.count(True)} right and {labels.count(False)} wrong responses leave none when balanced within "
                f"the {self.within}; choose more with data.responses, or train without this regime"
            )
        return balanced


def _balanced(groups: Sequence[Group], seed: int) -> list[Group]:
    places = [(i, k) for i, group in enumerate(groups) for k in range(len(group.rollouts))]
    places.sort(key=lambda place: _draw(seed, "balanced", groups[place[0]].problem.id, place[1]))
    right, wrong = ([(i, k) for i, k in places if groups[i].rollouts[k].correct is side] for side in (True, False))
    size = min(len(right), len(wrong))
    kept = {*right[:size], *wrong[:size]}
    left = [group.keep(k for k in range(len(group.rollouts)) if (i, k) in kept) for i, group in enumerate(groups)]
    return [group for group in left if group.rollouts]


class Deduplicated(Regime):
    """No response of which more than ``threshold`` stands in an earlier one of its problem that was kept.

    The share is that of its distinct n-grams of ``ngram`` words (a run of letters and digits, or one sign); a
    response of fewer words is one n-gram. Right and wrong ones are compared alike; a threshold of 1 keeps them
    all. The paper removes repetition by 8-grams and names no threshold.
    """

    def __init__(self, ngram: int = 8, threshold: float = 0.5) -> None:
        if ngram < 1:
            raise ValueError(f"n-grams of {ngram} words are none; give ngram >= 1")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold {threshold} is no share of n-grams; give a number in [0, 1]")
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
    """A ``share`` of each problem's responses, rounded down, replaced by responses to it in the file ``source``.

    Both are chosen by seed. A problem there is the same when its text is: ids are row numbers in many files.
    """

    def __init__(self, source: str, share: float = 0.5) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share {share} of the responses is not in (0, 1]; give 0.5 for half of them")
        self.source = source
        self.share = share

    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        theirs = {group.problem.text: group.rollouts for group in others(self.source)}
        return [self._mixed(group, theirs.get(group.problem.text, ()), seed) for group in groups]

    def _mixed(self, group: Group, theirs: Sequence[Rollout], seed: int) -> Group:
        name, rollouts = group.problem.id, list(group.rollouts)
        count = int(round(self.share * len(rollouts), 6))  # 0.29 * 100 is 28.999999999999996
        if len(theirs) < count:
            raise ValueError(
                f"problem {name!r} has {len(theirs)} responses in {self.source!r}, {self.share} of its "
                f"{len(rollouts)} are {count}; sample more there, or lower the share or data.responses"
            )
        replaced = _drawn(len(rollouts), count, seed, "replaced", name)
        taken = _drawn(len(theirs), count, seed, "taken", name)
        for i, j in zip(replaced, taken, strict=True):
            rollouts[i] = theirs[j]
        return replace(group, rollouts=tuple(rollouts))


class Added(Regime):
    """The groups of other files behind those there are, their ids behind the name of their file."""

    def __init__(self, sources: list[str]) -> None:
        if not sources or len(set(sources)) < len(sources):
            raise ValueError(f"sources {sources} are none, or one of them twice; name each file to add once")
        self.sources = sources

    def __call__(self, groups: Sequence[Group], others: Others, seed: int) -> list[Group]:
        more = [(name, group) for name in self.sources for group in others(name)]
        named = [replace(g, problem=replace(g.problem, id=f"{name}/{g.problem.id}")) for name, g in more]
        return [*groups, *named]
