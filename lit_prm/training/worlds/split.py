"""Cuts one set of rollouts into training, validation and test problems."""

from __future__ import annotations

from collections.abc import Sequence

from lit_prm.data.data_report import normalised
from lit_prm.data.records import Group
from lit_prm.data.regimes import draw

LARGEST_SHARE = 5  # a held-out split has at most one problem in this many


def split_by_problem(
    groups: Sequence[Group], *, train: int | None, validation: int, test: int, seed: int
) -> dict[str, list[Group]]:
    """The groups of each split, in the order given; all groups of one problem are in one split.

    Two groups have the same problem if their normalised texts are equal. Seed and text alone decide which problems a
    split gets, so neither their order nor the number of responses matters. ``validation`` and ``test`` are the numbers
    of held-out problems, but at most a fifth of all problems each. ``train`` is the number of training problems, at
    most; None takes all that are left. A smaller number gives a subset of what a larger one gives.
    """
    for name, size in (("train", train), ("validation", validation), ("test", test)):
        if size is not None and size < 1:
            raise ValueError(f"{name}: {size} problems; give at least 1, or for train null to take all that are left")
    problems = sorted({normalised(group) for group in groups}, key=lambda text: draw(seed, "split", text))
    if len(problems) < LARGEST_SHARE:
        raise ValueError(
            f"{len(problems)} problems are too few to split; name a source with at least {LARGEST_SHARE} different ones"
        )
    most = len(problems) // LARGEST_SHARE
    validation, test = min(validation, most), min(test, most)
    # each split has a region of its own, so that another size of one leaves the others as they are
    regions = {"test": problems[:most][:test], "validation": problems[most : 2 * most][:validation]}
    held_out = {text for texts in regions.values() for text in texts}
    regions["train"] = [text for text in reversed(problems) if text not in held_out][:train]
    splits = {text: name for name, texts in regions.items() for text in texts}
    return {name: [g for g in groups if splits.get(normalised(g)) == name] for name in ("train", "validation", "test")}
