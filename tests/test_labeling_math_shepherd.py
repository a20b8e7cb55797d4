from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine, EachToken, Newline
from lit_prm.generation.labeling import Labelled, MathShepherd
from lit_prm.generation.labeling.completions import Completions, Part
from lit_prm.generation.local_sampler import DecodingJob, Drawn, LocalSampler

CPU = torch.device("cpu")
RESPONSES = (
    ("3 + 4 = 7\n7 * 2 = 14\nIt is \\boxed{14}", "3 + 4 = 7\n7 * 2 = 15\nIt is \\boxed{15}", "14"),
    ("Double\n4\nfour", "Double\n4\nfour", "Double\n5\n\\boxed{4}\n"),
    ("one\ntwo\nthree\nfour", ""),
)
Label = Callable[..., Labelled]


def groups() -> list[Group]:
    return [
        Group(
            problem=Problem(prompt=f"Problem {g}?", id=f"p{g}", answer="14"),
            rollouts=tuple(Rollout(response=text, correct=i == 0) for i, text in enumerate(texts)),
        )
        for g, texts in enumerate(RESPONSES)
    ]


def right(text: str, answer: str) -> bool:
    """Whether a response counts as right here: about half of what a random model says is."""
    return sum(text.encode()) % 2 == 0


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer, Newline())


@pytest.fixture
def label(policy_folder: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Label:
    """Labels of ``groups``, with counts kept in ``file``."""
    monkeypatch.setattr("lit_prm.generation.labeling.completions.is_correct", right)

    def labelled(file: str = "counts", of: list[Group] | None = None, **settings: Any) -> Labelled:
        given = {"completions": 4, "hard": False, "max_new_tokens": 6, "workers": 1, **settings}
        labeler = MathShepherd(str(policy_folder), str(tmp_path / f"{file}.sqlite"), **given)
        return labeler.label(groups() if of is None else of, encoder, CPU)

    return labelled


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[DecodingJob]:
    """The jobs that were really begun."""
    begun: list[DecodingJob] = []
    work = LocalSampler.draw

    def draw(self: LocalSampler, jobs: list[DecodingJob]) -> Any:
        for job, result in zip(jobs, work(self, jobs), strict=True):
            begun.append(job)
            yield result

    monkeypatch.setattr(LocalSampler, "draw", draw)
    return begun


def step_labels(labelled: Labelled) -> list[list[tuple[float, ...] | None]]:
    return [[r.step_labels for r in g.rollouts] for g in labelled.groups]


# --- laws -----------------------------------------------------------------------------------------


def test_steps_tile_their_responses_and_the_last_one_has_the_outcome(label: Label) -> None:
    made = label()
    assert [[r.response for r in g.rollouts] for g in made.groups] == [list(texts) for texts in RESPONSES]
    for rollout in (r for g in made.groups for r in g.rollouts if r.response):
        assert rollout.steps == tuple(Newline().split(rollout.response))
        assert rollout.step_labels is not None
        assert rollout.step_labels[-1] == float(rollout.correct or False)
        assert all(4 * x in range(5) for x in rollout.step_labels)
    assert made.groups[2].rollouts[1].step_labels == ()


def test_a_hard_label_is_1_where_the_soft_one_is_not_0(label: Label, drawn: list[DecodingJob]) -> None:
    soft = label(completions=2)
    begun = len(drawn)
    hard = label(completions=2, hard=True)
    assert len(drawn) == begun > 0
    assert hard.tokens == soft.tokens
    flat = [x for rows in step_labels(soft) for row in rows for x in row or ()]
    assert {0.0, 0.5, 1.0} == set(flat)
    assert [math.ceil(x) for x in flat] == [x for rows in step_labels(hard) for row in rows for x in row or ()]


def test_a_labelling_killed_at_any_part_ends_as_one_unbroken(
    label: Label, drawn: list[DecodingJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_prm.generation.labeling.math_shepherd.ROWS", 4)  # one prefix in a part
    whole = label("unbroken")
    parts = len(drawn)
    assert parts == 9
    for alive in range(1, parts):
        drawn.clear()
        calls = iter(range(4 * alive))

        def killed(text: str, answer: str, calls: Any = calls) -> bool:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return right(text, answer)

        with monkeypatch.context() as patched:
            patched.setattr("lit_prm.generation.labeling.completions.is_correct", killed)
            with pytest.raises(KeyboardInterrupt):
                label(f"killed-{alive}")
        assert label(f"killed-{alive}") == whole
        assert len(drawn) == parts + 1  # what was under way is done again, nothing else


def test_labels_of_a_problem_do_not_depend_on_the_others_or_their_order(label: Label) -> None:
    whole = label("whole")
    alone = [label("alone", of=[group]) for group in reversed(groups())]
    assert [labelled.groups[0] for labelled in reversed(alone)] == whole.groups
    assert sum(labelled.tokens["generated"] for labelled in alone) == whole.tokens["generated"]


def test_equal_prefixes_of_a_problem_are_completed_once(
    label: Label, drawn: list[DecodingJob], encoder: Encoder
) -> None:
    made = label()
    prompts = [prompt for job in drawn for prompt in job.prompts]
    assert len(prompts) == len(set(prompts)) == 9  # of 4 + 6 + 3
    second = encoder.prompt_text(groups()[1].problem)
    assert sorted(p.removeprefix(second) for p in prompts if p.startswith(second)) == [
        "Double\n", "Double\n4\n", "Double\n5\n",
    ]  # fmt: skip
    twins = made.groups[1].rollouts[:2]
    assert twins[0].step_labels[:2] == twins[1].step_labels[:2]  # type: ignore[index]


def test_other_settings_and_another_gold_answer_are_counted_anew(label: Label, drawn: list[DecodingJob]) -> None:
    first = label()
    begun = len(drawn)
    for settings in ({"seed": 1}, {"temperature": 0.9}, {"max_new_tokens": 5}, {"completions": 3}):
        label(**settings)
    other = [Group(problem=Problem(prompt="Problem 0?", id="p0", answer="15"), rollouts=groups()[0].rollouts)]
    label(of=other)
    assert begun == 3
    assert len(drawn) == 5 * begun + 1
    assert step_labels(label()) == step_labels(first)


# --- a slow, obvious reference --------------------------------------------------------------------


def test_labels_and_costs_are_those_of_the_texts_drawn(label: Label, encoder: Encoder, policy_folder: Path) -> None:
    made = label()
    generated = prompt_tokens = 0
    for group in made.groups:
        prompt = encoder.prompt_text(group.problem)
        texts = {p for r in group.rollouts for p in list(accumulate(r.steps or ()))[:-1]}
        prefixes = sorted(texts, key=lambda p: (len(p), p))
        share = {}
        for prefix, drawn in _drawn_again(policy_folder, prompt, prefixes):
            share[prefix] = sum(right(prefix + text, "14") for text in drawn.texts) / 4
            generated += sum(drawn.generated)
            prompt_tokens += len(encoder.tokenizer(prompt + prefix)["input_ids"])
        for rollout in group.rollouts:
            ends = list(accumulate(rollout.steps or ()))
            wanted = [share[end] for end in ends[:-1]] + [float(rollout.correct or False)] * bool(ends)
            assert rollout.step_labels == tuple(wanted)
    assert made.tokens == {"generated": generated, "prompt": prompt_tokens}


def _drawn_again(folder: Path, prompt: str, prefixes: list[str]) -> Iterator[tuple[str, Drawn]]:
    store = Completions(LocalSampler(str(folder), temperature=0.7, max_new_tokens=6), "unused", 4)
    part = Part(prompt, "14", tuple(prefixes))
    job = DecodingJob(tuple(prompt + p for p in prefixes), 4, store._address(part).hex())
    return zip(prefixes, next(store.sampler.draw([job])), strict=True)


# --- budgets --------------------------------------------------------------------------------------


def outcome_cost(encoder: Encoder) -> int:
    """Every token sampled, read by the reference, and trained on."""
    return 3 * sum(len(row) for row in encoder.encode(groups()))


def step_cost(label: Label, encoder: Encoder, group: Group) -> int:
    """Tokens sampled and trained on, and those that labels took."""
    return 2 * sum(len(row) for row in encoder.encode([group])) + sum(label("costs", of=[group]).tokens.values())


def test_a_budget_labels_whole_problems_until_the_next_costs_too_much(label: Label, encoder: Encoder) -> None:
    whole = label("costs")
    costs = {g.problem.id: step_cost(label, encoder, g) for g in groups()}
    unit = outcome_cost(encoder)
    seen: list[set[str]] = []
    for allowed in (*range(min(costs.values()), sum(costs.values()), 3), sum(costs.values())):
        try:
            made = label("costs", budget=(allowed + 0.5) / unit)
        except ValueError:
            assert not seen  # the first problem in order is not the cheapest
            continue
        kept = {g.problem.id for g in made.groups}
        assert sum(costs[i] for i in kept) <= allowed
        assert [g for g in whole.groups if g.problem.id in kept] == made.groups
        seen += [kept] if not seen or kept != seen[-1] else []
    assert [len(kept) for kept in seen] == [1, 2, 3]
    assert seen[0] < seen[1] < seen[2]


def test_what_a_budget_leaves_out_is_not_sampled(label: Label, encoder: Encoder, drawn: list[DecodingJob]) -> None:
    cost = [step_cost(label, encoder, g) for g in groups()]
    drawn.clear()
    made = label("fresh", budget=(max(cost) + 0.5) / outcome_cost(encoder))
    assert 1 <= len(made.groups) < 3
    assert len(drawn) == len(made.groups) + 1  # and the one that was too much
    again = label("costs", budget=(max(cost) + 0.5) / outcome_cost(encoder))  # all in the file already
    assert again == made


def test_seeds_choose_other_problems(label: Label, encoder: Encoder) -> None:
    """The budget lets the dearest problem be labelled, and no two."""
    dearest = max(step_cost(label, encoder, g) for g in groups())
    made = [label(budget=(dearest + 0.5) / outcome_cost(encoder), seed=seed, completions=1) for seed in range(8)]
    assert {len(labelled.groups) for labelled in made} == {1}
    assert len({labelled.groups[0].problem.id for labelled in made}) > 1


def test_a_budget_for_nothing_is_refused_with_the_first_cost(label: Label) -> None:
    with pytest.raises(ValueError, match=r"budget 0\.001 allows \d tokens, but the first problem alone takes \d+"):
        label(budget=0.001)


# --- edges ----------------------------------------------------------------------------------------


def test_a_response_without_label_is_graded(label: Label) -> None:
    rollouts = tuple(Rollout(response=r.response) for r in groups()[0].rollouts)
    made = label(of=[Group(problem=groups()[0].problem, rollouts=rollouts)])
    assert [r.step_labels[-1] for r in made.groups[0].rollouts if r.step_labels] == [1.0, 0.0, 1.0]


def test_a_response_s_own_steps_come_before_the_rule(label: Label) -> None:
    own = Rollout(response="a\nb\nc", steps=("a\nb\n", "c"), correct=True)
    made = label(of=[Group(problem=groups()[0].problem, rollouts=(own,))])
    assert made.groups[0].rollouts[0].steps == own.steps
    assert len(made.groups[0].rollouts[0].step_labels or ()) == 2


def test_no_groups_cost_nothing(label: Label) -> None:
    assert label(of=[]) == Labelled([], {"generated": 0, "prompt": 0})


@pytest.mark.parametrize("settings", [{"completions": 0}, {"completions": 1000}, {"budget": 0.0}, {"budget": -1.0}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"are not between 1 and 384|is not positive"):
        MathShepherd("none", "none", **settings)


def test_tokens_as_steps_and_missing_answers_are_refused(
    label: Label, policy_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    labeler = MathShepherd(str(policy_folder), str(tmp_path / "x.sqlite"))
    with pytest.raises(ValueError, match=r"EachToken makes every token a step, .* Set data\.steps"):
        labeler.label(groups(), Encoder(tokenizer, EachToken()), CPU)
    unknown = Group(problem=Problem(prompt="?", id="p9"), rollouts=groups()[0].rollouts)
    with pytest.raises(ValueError, match="problem p9 has no answer"):
        labeler.label([unknown], Encoder(tokenizer, BlankLine()), CPU)
