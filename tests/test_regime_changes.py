"""Changes of the training data: seeded, ordered, and nothing is made up or changed in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.regimes import Added, Balanced, Deduplicated, Mixed, Regime

SEEDS = st.integers(0, 99)
DATA = st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=8)
TEXTS = st.lists(st.text("ab \n", max_size=25), min_size=1, max_size=8)


def make(data: Sequence[Sequence[bool]], maker: str = "us") -> list[Group]:
    return [
        Group(
            problem=Problem(prompt=f"What is {i} + 1?", id=f"p{i}"),
            rollouts=tuple(Rollout(response=f"{maker} {i} {k}", correct=c) for k, c in enumerate(labels)),
        )
        for i, labels in enumerate(data)
    ]


def said(*texts: str) -> Group:
    return Group(problem=Problem(prompt="?", id="p"), rollouts=tuple(Rollout(response=t, correct=True) for t in texts))


def changed(regime: Regime, groups: Sequence[Group], seed: int = 0, **files: Sequence[Group]) -> list[Group]:
    """Groups and their tuples are frozen; what could be changed in place is the list."""
    before = list(groups)
    result = regime(groups, files.__getitem__, seed)
    assert list(groups) == before
    assert regime(groups, files.__getitem__, seed) == result
    return result


def responses(groups: Sequence[Group]) -> list[str]:
    return [r.response for g in groups for r in g.rollouts]


def counts(groups: Sequence[Group]) -> tuple[int, int]:
    labels = Counter(r.correct for g in groups for r in g.rollouts)
    return labels[True], labels[False]


def in_order(part: Sequence[str], whole: Sequence[str]) -> bool:
    wanted = set(part)
    return list(part) == [text for text in whole if text in wanted]


# --- balanced ---------------------------------------------------------------------------------------


@given(data=DATA, seed=SEEDS)
def test_over_the_data_set_the_larger_class_is_cut_and_the_smaller_left_whole(
    data: list[list[bool]], seed: int
) -> None:
    groups = make(data)
    size = min(counts(groups))
    if not size:
        return
    got = changed(Balanced("dataset"), groups, seed)
    assert counts(got) == (size, size)
    assert in_order(responses(got), responses(groups))
    assert all(g.rollouts for g in got)


@given(data=DATA, seed=SEEDS)
def test_within_problems_each_has_as_many_right_as_wrong(data: list[list[bool]], seed: int) -> None:
    groups = make(data)
    wanted = {g.problem.id: size for g in groups if (size := min(counts([g])))}
    if not wanted:
        return
    got = changed(Balanced("problem"), groups, seed)
    assert {g.problem.id: counts([g]) for g in got} == {name: (size, size) for name, size in wanted.items()}
    assert in_order(responses(got), responses(groups))


def test_balancing_what_is_balanced_changes_nothing_and_lots_depend_on_the_seed() -> None:
    groups = make([[True, False] * 2, [False, True]])
    uneven = make([[True] + [False] * 7] * 4)
    for within in ("dataset", "problem"):
        assert changed(Balanced(within), groups) == groups
        assert changed(Balanced(within), uneven, 0) != changed(Balanced(within), uneven, 1)
        assert changed(Balanced(within), []) == []


def test_within_a_problem_the_choice_does_not_hang_on_other_problems() -> None:
    groups = make([[True] + [False] * 7] * 6)
    whole = changed(Balanced("problem"), groups)
    assert whole == [changed(Balanced("problem"), [g])[0] for g in groups]


def test_no_response_is_favoured() -> None:
    groups = make([[True] + [False] * 4])
    drawn = Counter(responses(changed(Balanced("problem"), groups, seed))[1] for seed in range(400))
    assert len(drawn) == 4
    assert 60 < min(drawn.values()) <= max(drawn.values()) < 140  # 100 expected, sd 8.7


def test_responses_without_a_label_are_of_neither_class() -> None:
    (group,) = make([[True, False, False]])
    unknown = replace(group, rollouts=(*group.rollouts, Rollout(response="?")))
    assert counts(changed(Balanced("dataset"), [unknown])) == (1, 1)


@pytest.mark.parametrize("within", ["dataset", "problem"])
def test_one_class_alone_is_refused(within: Literal["dataset", "problem"]) -> None:
    with pytest.raises(
        ValueError, match=rf"0 right and 5 wrong responses leave none when balanced within the {within}\. Choose more"
    ):
        changed(Balanced(within), make([[False] * 2, [False] * 3]))


# --- deduplicated -----------------------------------------------------------------------------------


@given(texts=TEXTS, ngram=st.integers(1, 4), threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_deduplicating_again_changes_nothing_and_the_first_response_stays(
    texts: list[str], ngram: int, threshold: float
) -> None:
    regime = Deduplicated(ngram, threshold)
    got = changed(regime, [said(*texts)])
    assert changed(regime, got) == got
    assert got[0].rollouts[0].response == texts[0]
    assert len(set(responses(got))) == len(responses(got))  # no exact copy is left


@given(texts=TEXTS, ngram=st.integers(1, 4))
def test_a_threshold_of_one_keeps_everything(texts: list[str], ngram: int) -> None:
    group = said(*texts)
    assert changed(Deduplicated(ngram, 1.0), [group]) == [group]


@given(texts=TEXTS, ngram=st.integers(1, 3), threshold=st.sampled_from([0.0, 0.5]))
def test_it_is_the_slow_rule_written_a_second_time(texts: list[str], ngram: int, threshold: float) -> None:
    def grams(text: str) -> list[str]:
        words = text.split()
        found = [" ".join(words[i : i + ngram]) for i in range(len(words)) if i + ngram <= len(words)]
        return sorted(set(found or [" ".join(words)]))

    kept: list[str] = []
    for text in texts:
        mine = grams(text)
        if not any(sum(g in grams(earlier) for g in mine) / len(mine) > threshold for earlier in kept):
            kept.append(text)
    assert responses(changed(Deduplicated(ngram, threshold), [said(*texts)])) == kept


def test_more_than_half_of_the_eight_grams_is_too_much_and_half_is_not() -> None:
    """Ten words have three 8-grams; with the last word new two of them stood there before, with two new one did."""
    words = list("abcdefghij")
    first, two_of_three, one_of_three = (" ".join(w) for w in (words, [*words[:9], "x"], [*words[:8], "x", "y"]))
    assert responses(changed(Deduplicated(), [said(first, two_of_three)])) == [first]
    assert responses(changed(Deduplicated(), [said(first, one_of_three)])) == [first, one_of_three]
    nine = " ".join(words[:9])  # two 8-grams: half is not more than half
    other = " ".join([*words[:8], "x"])
    assert responses(changed(Deduplicated(), [said(nine, other)])) == [nine, other]


def test_words_are_runs_of_letters_and_digits_and_each_sign_is_one() -> None:
    assert responses(changed(Deduplicated(1, 0.7), [said("3+4=7", "3 + 4 = 8", "3 + 4 = 7", "34 7")])) == [
        "3+4=7",
        "34 7",
    ]  # fmt: skip  4 of the 5 words of the second are in the first, one of two of the last


def test_short_responses_are_compared_whole_and_only_within_their_problem() -> None:
    groups = [said("a b c", "a b c", "a b", "a b c d"), said("a b c")]
    assert [responses([g]) for g in changed(Deduplicated(), groups)] == [["a b c", "a b", "a b c d"], ["a b c"]]


def test_a_right_response_that_repeats_a_wrong_one_goes_too() -> None:
    both = Group(
        problem=Problem(prompt="?", id="p"),
        rollouts=(Rollout(response="a b", correct=False), Rollout(response="a b", correct=True)),
    )
    assert changed(Deduplicated(), [both]) == [both.keep([0])]


# --- mixed ------------------------------------------------------------------------------------------


@given(data=DATA, share=st.sampled_from([0.25, 0.5, 1.0]), seed=SEEDS)
def test_a_share_of_every_problem_s_responses_is_the_others_and_the_rest_stay_in_place(
    data: list[list[bool]], share: float, seed: int
) -> None:
    groups, others = make(data), make([[True] * 8] * len(data), "them")
    got = changed(Mixed("other", share), groups, seed, other=others)
    for before, theirs, after in zip(groups, others, got, strict=True):
        assert after.problem == before.problem
        assert len(after.rollouts) == len(before.rollouts)
        kept = [a == b for a, b in zip(after.rollouts, before.rollouts, strict=True)]
        assert kept.count(False) == int(share * len(before.rollouts))
        new = [r for r, same in zip(after.rollouts, kept, strict=True) if not same]
        assert in_order([r.response for r in new], responses([theirs]))
        assert set(new) <= set(theirs.rollouts)
        assert len(set(new)) == len(new)


def test_shares_that_floats_cannot_hold_are_rounded_as_meant() -> None:
    groups, others = make([[True] * 100]), make([[True] * 100], "them")
    got = changed(Mixed("other", 0.29), groups, other=others)
    assert sum(text.startswith("them") for text in responses(got)) == 29


def test_the_problem_is_found_by_its_text_whatever_ids_and_order_the_other_file_has() -> None:
    groups = make([[True] * 2] * 3)
    others = make([[False] * 2] * 3, "them")[::-1]
    renamed = [replace(g, problem=replace(g.problem, id=f"p{i}")) for i, g in enumerate(others)]  # rows, not problems
    assert changed(Mixed("other"), groups, other=renamed) == changed(Mixed("other"), groups, other=others)
    assert all(r.response.split()[1] == g.problem.id[1:] for g in changed(Mixed("other"), groups, other=renamed)
               for r in g.rollouts)  # fmt: skip


def test_the_seed_decides_which_are_replaced_and_which_come_instead() -> None:
    groups, others = make([[True] * 8]), make([[True] * 8], "them")
    places, taken = Counter[int](), Counter[str]()
    for seed in range(200):
        (group,) = changed(Mixed("other"), groups, seed, other=others)
        new = {k: r.response for k, r in enumerate(group.rollouts) if r.response.startswith("them")}
        places.update(new.keys())
        taken.update(new.values())
    for drawn in (places, taken):
        assert len(drawn) == 8
        assert 65 < min(drawn.values()) <= max(drawn.values()) < 135  # 100 expected, sd 7


def test_too_few_responses_there_are_refused_with_what_is_needed() -> None:
    groups = make([[True] * 8] * 2)
    for others, there in ((make([[True] * 4, [True] * 3], "them"), 3), (make([[True] * 4], "them"), 0)):
        with pytest.raises(
            ValueError,
            match=rf"problem 'p1' has {there} responses in 'other', but 0\.5 of its 8 responses are 4\. Sample",
        ):
            changed(Mixed("other"), groups, other=others)


# --- added ------------------------------------------------------------------------------------------


def test_other_files_come_behind_ours_which_stay_as_they_are() -> None:
    ours, general, code = (make([[True, False]] * n, name) for n, name in ((3, "us"), (2, "general"), (2, "code")))
    got = changed(Added(["general", "code"]), ours, general=general, code=code)
    assert got[:3] == ours
    assert [g.problem.id for g in got[3:]] == ["general/p0", "general/p1", "code/p0", "code/p1"]
    assert [g.rollouts for g in got[3:]] == [g.rollouts for g in general + code]
    assert [g.problem.text for g in got[3:]] == [g.problem.text for g in general + code]


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make_it", "settings", "message"), [
    (Balanced, {"within": "file"}, r"within 'file' is neither 'dataset' nor 'problem'\. Give one"),
    (Deduplicated, {"ngram": 0}, r"ngram is 0, .* Give ngram >= 1"),
    (Deduplicated, {"threshold": 1.5}, r"threshold 1\.5 is not a share of n-grams\. Give a number in \[0, 1\]"),
    (Mixed, {"source": "other", "share": 0}, r"share 0 of the responses is not in \(0, 1\]\. Give 0\.5"),
    (Added, {"sources": []}, r"sources \[\] are empty or name a file twice\. Name each file"),
    (Added, {"sources": ["a", "a"]}, r"sources \['a', 'a'\] are empty or name a file twice\. Name each file"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(make_it: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_it(**settings)
