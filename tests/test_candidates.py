from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from rich.progress import Progress
from transformers import PreTrainedTokenizerFast

from lit_prm.answers import cluster
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine, EachToken
from lit_prm.evaluation.candidates import CandidateSet, _watched, split
from lit_prm.evaluation.evaluate import judge
from lit_prm.evaluation.vote_weights import Sigmoid
from tests.candidate_sets import candidate_set, groups, scored


def said(*responses: str, answers: tuple[str | None, ...] | None = None, id: str = "p") -> Group:
    known = answers or (None,) * len(responses)
    rollouts = (Rollout(response=r, correct=False, answer=a) for r, a in zip(responses, known, strict=True))
    return Group(problem=Problem(prompt="How many?", id=id), rollouts=tuple(rollouts))


def test_every_response_is_scored_by_the_encoding_of_its_own_text(tokenizer: PreTrainedTokenizerFast) -> None:
    candidates = candidate_set(tokenizer)
    rollouts = [(p, r.response) for p, g in enumerate(candidates.groups) for r in g.rollouts]
    for u, (p, response) in zip(candidates.source, rollouts, strict=True):
        row = candidates.encoded[u]
        assert (row.row, row.group) == (u, p)
        assert tokenizer.decode(row.ids[row.prompt_length :], skip_special_tokens=True) == response


def test_equal_responses_of_a_problem_are_scored_once_and_those_of_two_problems_twice(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    candidates = candidate_set(tokenizer, [said("14", "15", "14"), said("14", id="q")])
    assert candidates.source.tolist() == [0, 1, 0, 2]
    assert [e.group for e in candidates.encoded] == [0, 0, 1]


def test_equal_responses_with_other_steps_are_scored_each_by_its_own(tokenizer: PreTrainedTokenizerFast) -> None:
    rollouts = tuple(
        Rollout(response="1 + 1 = 2\n\nso 2", correct=True, steps=steps)
        for steps in (("1 + 1 = 2\n\nso 2",), ("1 + 1 = 2\n\n", "so 2"), ("1 + 1 = 2\n\n", "so 2"))
    )
    candidates = candidate_set(tokenizer, [Group(problem=Problem(prompt="How many?", id="p"), rollouts=rollouts)])
    assert candidates.source.tolist() == [0, 1, 1]
    assert [int(e.step.max()) for e in candidates.encoded] == [0, 1]


def test_splitting_and_joining_gives_back_the_array(tokenizer: PreTrainedTokenizerFast) -> None:
    candidates = candidate_set(tokenizer)
    values = np.arange(len(candidates.source))
    parts = split(candidates.groups, values)
    assert [len(part) for part in parts] == [len(g.rollouts) for g in groups()]
    np.testing.assert_array_equal(np.concatenate(parts), values)


def test_answers_are_clustered_within_problems_by_equivalence(tokenizer: PreTrainedTokenizerFast) -> None:
    first = said("a", "b", "c", "d", answers=("0.5", "\\frac{1}{2}", "3", "1/2"))
    candidates = candidate_set(tokenizer, [first, said("a", "b", answers=("3", "0.5"), id="q")])
    assert candidates.clusters.tolist() == [0, 0, 1, 0, 0, 1]


def test_a_response_read_without_an_answer_is_searched_for_one(tokenizer: PreTrainedTokenizerFast) -> None:
    """Candidate files carry no answers, and truncated responses state none."""
    one = said("so \\boxed{14}", "it comes to 14", "no idea", "7 * 2 = 14, and", "5", answers=(None,) * 4 + ("14",))
    assert candidate_set(tokenizer, [one]).clusters.tolist() == [0, 0, -1, 0, 0]


def test_answers_are_compared_once_per_set_however_often_it_is_judged(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(answers: list[str | None]) -> list[int]:
        calls.append(len(answers))
        return cluster(answers)

    monkeypatch.setattr("lit_prm.evaluation.candidates.cluster", counted)
    candidates = candidate_set(tokenizer)
    for seed in (1, 2):
        judge(candidates, scored(candidates, seed), ["min"], Sigmoid())
    assert len(calls) == len(candidates.groups)


def test_tokens_as_steps_are_not_the_responses_own(tokenizer: PreTrainedTokenizerFast) -> None:
    assert candidate_set(tokenizer).own_steps
    assert not CandidateSet.of("set", groups(), Encoder(tokenizer, EachToken())).own_steps


def test_what_is_only_scored_needs_no_labels_but_responses(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, BlankLine())
    asked = Problem(prompt="?", id="x9")
    bare = Group(problem=asked, rollouts=(Rollout(response="14"), Rollout(response="15", correct=True)))
    candidates = CandidateSet.of("set", [bare], encoder, judged=False)
    assert len(candidates.encoded) == 2
    assert not candidates.judged
    assert (candidates.clusters == -1).all()
    assert candidate_set(tokenizer).judged
    with pytest.raises(ValueError, match="1 problems have no responses, the first is 'x9'; give some or drop"):
        CandidateSet.of("set", [bare, Group(problem=asked, rollouts=())], encoder, judged=False)


def test_the_summary_counts_problems_candidates_and_cut_responses(tokenizer: PreTrainedTokenizerFast) -> None:
    assert candidate_set(tokenizer).summary() == "set: 4 problems, 2-5 candidates each"
    made = [said("1", "2", "2 " * 99, "2 " * 99)]
    cut = CandidateSet.of("cut", made, Encoder(tokenizer, BlankLine(), max_length=60))
    assert cut.summary() == "cut: 1 problems, 4 candidates each, 2 of 4 responses truncated"


def told(name: str, method: Callable[[Progress], None], events: list[str]) -> Callable[[Progress], None]:
    """The method, which also notes its name."""

    def noted(self: Progress) -> None:
        events.append(name)
        method(self)

    return noted


def test_a_progress_bar_appears_only_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr("lit_prm.evaluation.candidates.monotonic", iter(range(100)).__next__)
    for name in ("start", "stop"):
        monkeypatch.setattr(Progress, name, told(name, getattr(Progress, name), events))
    made = groups()
    assert list(_watched("slow", made, patience=2.0)) == made
    assert events == ["start", "stop"]
    assert list(_watched("quick", made, patience=50.0)) == made
    assert events == ["start", "stop"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "has no problem with responses"),
        ([Group(problem=Problem(prompt="?", id="x9"), rollouts=())], "1 problems have no labelled responses.*'x9'"),
        ([said("14"), Group(problem=Problem(prompt="?", id="x9"), rollouts=(Rollout(response="1"),))], "the first is"),
    ],
)
def test_what_cannot_be_judged_is_refused(tokenizer: PreTrainedTokenizerFast, given: list[Group], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CandidateSet.of("set", given, Encoder(tokenizer, BlankLine()))
