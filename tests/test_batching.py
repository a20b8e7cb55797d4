from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lit_prm.data.batch import Encoded, collate
from lit_prm.data.batching import EncodedResponses, TokenBudget, Updates, equal_parts, mismatch


def rows(lengths: list[int], per_problem: int = 2) -> list[Encoded]:
    return [
        Encoded(
            ids=np.arange(n, dtype=np.int32), prompt_length=1, step=np.zeros(n - 1, dtype=np.int32),
            label=float(i % 2), group=i // per_problem, row=i,
        )
        for i, n in enumerate(lengths)
    ]  # fmt: skip


LENGTHS = st.lists(st.integers(2, 40), min_size=12, max_size=40)  # six problems: as many as cuts x ranks


@given(LENGTHS, st.integers(1, 3), st.integers(1, 2), st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_sees_every_response_once_and_the_cut_does_not_choose_the_update(
    lengths: list[int], cuts: int, ranks: int, epoch: int
) -> None:
    data = rows(lengths[: len(lengths) // 2 * 2])
    size = 2 * cuts * ranks
    shares = []
    for rank in range(ranks):
        sampler = Updates(data, size, cuts=cuts, rank=rank, ranks=ranks, seed=3)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    assert sorted(i for share in shares for cut in share for i in cut.rows) == list(range(len(data)))
    whole = Updates(data, size, cuts=1, seed=3)
    whole.set_epoch(epoch)
    for i, update in enumerate(whole):
        parts = [share[i * cuts + j] for share in shares for j in range(cuts)]
        assert {p.update for p in parts} == {update.update}
        assert sorted(r for p in parts for r in p.rows) == sorted(update.update)


def test_problems_stay_whole() -> None:
    data = rows([5, 9, 30, 2, 8, 8, 4, 12], per_problem=4)
    for cut in Updates(data, 8, cuts=2):
        assert sorted(cut.rows) in ([0, 1, 2, 3], [4, 5, 6, 7])


def test_a_resumed_epoch_goes_on_where_it_was() -> None:
    data = rows(list(range(2, 34)))
    whole = list(Updates(data, 4, cuts=2, seed=1))
    resumed = Updates(data, 4, cuts=2, seed=1)
    resumed.skip = 5
    assert list(resumed) == whole[5:]
    assert list(resumed) == whole  # the next epoch is whole again


def test_epochs_and_seeds_differ() -> None:
    data = rows(list(range(2, 34)))
    first, other = Updates(data, 4, seed=1), Updates(data, 4, seed=2)
    assert list(first) != list(other)
    before = list(first)
    first.set_epoch(1)
    assert list(first) != before


def test_updates_are_of_equal_size() -> None:
    sizes = {len(cut.update) for cut in Updates(rows([7] * 46), 8)}
    assert sizes <= {6, 8, 10}


def test_too_many_cuts_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"Raise data\.batch_size or lower trainer\.accumulate_grad_batches"):
        Updates(rows([4] * 8), 4, cuts=4)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.data())
def test_equal_parts_tile_and_are_never_empty(sizes: list[int], data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, len(sizes)))
    slices = equal_parts(sizes, parts)
    assert len(slices) == parts
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(len(sizes)))
    assert all(s.stop > s.start for s in slices)


@given(LENGTHS, st.integers(40, 200), st.integers(1, 3))
def test_evaluation_batches_hold_every_response_within_the_budget_and_every_rank_has_as_many(
    lengths: list[int], budget: int, ranks: int
) -> None:
    """Once, but for the last batch, which ranks that are short of one repeat."""
    data = rows(lengths)
    shares = [list(TokenBudget(data, budget, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    cuts = [cut for share in shares for cut in share]
    once = set(cuts)
    assert len(cuts) - len(once) < ranks
    assert sorted(i for cut in once for i in cut.rows) == list(range(len(data)))
    assert all(max(lengths[i] for i in cut.rows) * len(cut.rows) <= budget for cut in cuts)


def test_a_micro_batch_knows_the_labels_of_its_whole_update() -> None:
    data = rows([4, 5, 6, 7, 8, 9, 4, 4])
    cut = next(iter(Updates(data, 8, cuts=2)))
    batch = EncodedResponses(data)[cut]
    assert len(batch.labels) == 4
    assert batch.global_labels.tolist() == [float(i % 2) for i in cut.update]
    assert batch.global_group.tolist() == [i // 2 for i in cut.update]


# --- mismatched responses ---------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=3, max_size=8), st.integers(0, 5))
@settings(deadline=None)
def test_every_prompt_meets_a_response_of_another_problem_and_every_response_is_used_once(
    sizes: list[int], seed: int
) -> None:
    group = [p for p, size in enumerate(sizes) for _ in range(size)]
    data = [
        Encoded(
            ids=np.array([100 + p, 100 + p, 1000 + i], dtype=np.int32), prompt_length=2,
            step=np.zeros(1, dtype=np.int32), label=1.0, group=p, row=i,
        )
        for i, p in enumerate(group)
    ]  # fmt: skip
    if 2 * max(sizes) > len(data):
        with pytest.raises(ValueError, match="Mismatched responses need at least two problems of equal size"):
            mismatch(data, seed, 99)
        return
    made = mismatch(data, seed, 99)
    assert [m.ids[:2].tolist() for m in made] == [d.ids[:2].tolist() for d in data]
    answers = [int(m.ids[2]) - 1000 for m in made]
    assert sorted(answers) == list(range(len(data)))
    assert all(group[answer] != d.group for answer, d in zip(answers, data, strict=True))
    assert all(np.isnan(m.label) for m in made)


def test_mismatched_responses_are_cut_at_the_greatest_length() -> None:
    made = mismatch(rows([9, 9, 30, 30]), 0, 12)
    assert [len(m) for m in made] == [12, 12, 9, 9]
    assert [len(m.step) for m in made] == [11, 11, 8, 8]


def test_an_updates_first_micro_batch_of_each_rank_brings_its_share() -> None:
    data = rows(list(range(2, 34)))
    for rank in (0, 1):
        cuts = list(Updates(data, 16, cuts=2, rank=rank, ranks=2, seed=1))
        for first, second in zip(cuts[::2], cuts[1::2], strict=True):
            assert first.share == (first.rows, second.rows)
            assert second.share == ()
    batch = EncodedResponses(data, mismatch(data, 0, 99))[cuts[0]]
    assert [len(b.ids) for b in batch.mismatched] == [len(rows) for rows in cuts[0].share]
    assert EncodedResponses(data)[cuts[0]].mismatched == ()


def test_a_moved_batch_takes_every_tensor_along() -> None:
    inner = collate(rows([4, 6]))
    moved = collate(rows([3, 5]), mismatched=(inner,), share_prompts=True).to("meta")
    every = [x for batch in (moved, *moved.mismatched) for x in batch if isinstance(x, Tensor)]
    assert len(every) == 21  # of both batches, owner once
    assert {x.device.type for x in every} == {"meta"}
