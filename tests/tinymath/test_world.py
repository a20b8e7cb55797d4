from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lit_prm.data.formats import read_groups
from lit_prm.generation.local_sampler import LocalSampler
from lit_prm.training.worlds.tinymath import TinyMath
from lit_prm.training.worlds.tinymath import world as module
from lit_prm.training.worlds.tinymath.checker import error_kinds, first_error
from lit_prm.training.worlds.tinymath.irrelevant import code, general, irrelevant_groups
from lit_prm.training.worlds.tinymath.misconceptions import draw_author
from lit_prm.training.worlds.tinymath.problems import make_problem
from lit_prm.training.worlds.tinymath.sft import EXPERT_LR
from lit_prm.training.worlds.tinymath.solutions import write_solution
from lit_prm.training.worlds.tinymath.tokenizer import make_tokenizer
from tests.conftest import MICRO


def contents(root: Path) -> dict[str, str]:
    """Digest of every file and target of every link."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_the_same_settings_give_the_same_bytes(built_world: Path, tmp_path: Path) -> None:
    TinyMath(**MICRO).build(tmp_path / "another" / "place")
    first, second = contents(built_world), contents(tmp_path / "another" / "place")
    assert first == second
    assert len(first) > 15


def test_texts_change_only_with_the_version(built_world: Path) -> None:
    """If it fails and the change is meant, raise ``world.VERSION`` and write the new digest here."""
    texts = {
        name: digest for name, digest in contents(built_world).items() if name.startswith(("problems-", "irrelevant-"))
    }
    whole = hashlib.sha256("".join(sorted(texts.values())).encode()).hexdigest()
    tokenizer = hashlib.sha256(make_tokenizer().backend_tokenizer.to_str().encode()).hexdigest()
    rng = random.Random(0)
    solved = [(p, write_solution(p, rng, draw_author(1.0, rng))) for p in (make_problem(rng) for _ in range(300))]
    checked = "".join(f"{text}{error_kinds(problem, text)}" for problem, text in solved)
    authors = hashlib.sha256(f"{checked}{EXPERT_LR}".encode()).hexdigest()
    digests = [digest[:16] for digest in (whole, tokenizer, authors)]
    assert (module.VERSION, len(texts), *digests) == (
        "2",
        5,
        "697b99252f35525a",
        "097ac38908aac3c2",
        "ec7f97e25d2379c6",
    )


def test_what_is_there_is_not_built_again(built_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train_models", "make_tokenizer", "LocalSampler", "write_problems", "write_groups"):
        monkeypatch.setattr(module, name, lambda *_, n=name, **__: pytest.fail(f"{n} was called"))
    before = contents(built_world)
    TinyMath(**{**MICRO, "workers": 3}).build(built_world)  # workers say how fast, not what
    assert contents(built_world) == before


def test_interrupted_sampling_keeps_the_file_that_was_done(
    built_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "test.jsonl").write_text("kept")
    monkeypatch.setattr(module, "LocalSampler", lambda *_, **__: pytest.fail("sampled again"))
    world = TinyMath(**MICRO)
    world._sample(built_world, {"test": world.candidates["test"]}, folder)
    assert (folder / "test.jsonl").read_text() == "kept"


STAGES = ["problems", "models", "rollouts", "candidates", "irrelevant"]


@pytest.mark.parametrize(("changed", "first"), [
    ({"seed": 1}, "problems"), ({"lr": 1e-4}, "models"), ({"steps": 5}, "models"), ({"weaker_steps": 1}, "models"),
    ({"expert_steps": 5}, "models"), ({"fluent_errors": 0.5}, "models"),
    ({"temperature": 1.0}, "rollouts"), ({"responses": 2}, "rollouts"), ({"test_candidates": 8}, "candidates"),
    ({"other_test_problems": 3}, "candidates"), ({"irrelevant_problems": 3}, "irrelevant"), ({}, None),
])  # fmt: skip
def test_a_setting_decides_from_which_stage_on_a_world_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], first: str | None
) -> None:
    for name in ("_problems", "_models", "_sample", "_irrelevant"):
        monkeypatch.setattr(TinyMath, name, lambda *_: None)
    settings = {**MICRO, "generator_steps": 3, "weaker_steps": 2}
    TinyMath(**settings).build(tmp_path)
    before = [os.readlink(tmp_path / name) for name in STAGES]
    TinyMath(**{**settings, **changed}).build(tmp_path)
    after = [os.readlink(tmp_path / name) for name in STAGES]
    same = [a == b for a, b in zip(before, after, strict=True)]
    assert same == [first is None or i < STAGES.index(first) for i in range(5)]


@pytest.mark.parametrize(("file", "split", "size", "each", "model"), [
    ("rollouts/train", "train", 24, 8, "generator"), ("rollouts/other", "train", 24, 4, "weaker"),
    ("candidates/validation", "validation", 6, 4, "generator"), ("candidates/test", "test", 6, 4, "generator"),
    ("candidates/weaker", "test", 4, 4, "weaker"), ("candidates/stronger", "test", 4, 4, "stronger"),
])  # fmt: skip
def test_every_problem_of_a_file_has_its_graded_responses_with_their_first_errors(
    micro_world: Path, file: str, split: str, size: int, each: int, model: str
) -> None:
    problems = TinyMath(**MICRO).problem_texts()[split][:size]
    groups = read_groups(str(micro_world / f"{file}.jsonl")).groups
    assert [g.problem.id for g in groups] == [f"{split}/{i}" for i in range(size)]
    assert [g.problem.text for g in groups] == [p.text for p in problems]
    assert [(g.problem.answer, g.problem.subject, g.problem.level) for g in groups] == [
        (p.answer, p.subject, p.level) for p in problems
    ]
    assert {len(g.rollouts) for g in groups} == {each}
    assert len(problems) == size
    for group, problem in zip(groups, problems, strict=True):
        for rollout in group.rollouts:
            assert rollout.generator == model
            assert rollout.first_error == first_error(problem, rollout.response)
            if rollout.error_kinds is not None:  # `micro_world` puts right solutions in the place of some
                assert rollout.error_kinds == error_kinds(problem, rollout.response)
            assert rollout.correct or rollout.first_error != -1  # right in every line is right
            assert rollout.correct == (rollout.answer == problem.answer)


def test_the_responses_of_a_file_come_from_the_model_it_is_said_to_be_of(
    built_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: dict[str, str] = {}

    class Sampler(LocalSampler):
        def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
            models[(self.progress or "").split()[1]] = Path(self.settings[0]).name
            return [[""] * n for _ in prompts]

    monkeypatch.setattr(module, "LocalSampler", Sampler)
    world = TinyMath(**MICRO)
    for name, asked in (world.rollouts | world.candidates).items():
        groups = world._responses(built_world, name, asked)
        assert {r.generator for g in groups for r in g.rollouts} == {models[name]}
    assert models == {
        "train": "generator", "other": "weaker", "validation": "generator", "test": "generator", "weaker": "weaker",
        "stronger": "stronger",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["general", "code"])
def test_irrelevant_instructions_have_a_right_and_a_wrong_response_and_no_problem_s_text(
    built_world: Path, name: str
) -> None:
    groups = read_groups(str(built_world / "irrelevant" / f"{name}.jsonl")).groups
    assert groups == tuple(irrelevant_groups({"general": general, "code": code}[name], 8, f"{name}-0"))
    assert [sorted(r.correct is True for r in g.rollouts) for g in groups] == [[False, True]] * 8
    problems = {p.text for split in TinyMath(**MICRO).problem_texts().values() for p in split}
    assert problems.isdisjoint(g.problem.text for g in groups)


@pytest.mark.parametrize("steps", [2, 3, 0])
def test_a_weaker_model_that_is_no_earlier_snapshot_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"weaker_steps {steps} is not within 1\.\.1. The weaker model is an earlier"):
        TinyMath(steps=4, generator_steps=2, weaker_steps=steps)


def test_a_generator_later_than_the_base_is_refused() -> None:
    with pytest.raises(ValueError, match=r"generator_steps 9 is not within 1\.\.4. Give at most steps = 4"):
        TinyMath(steps=4, generator_steps=9)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_fluent_errors_outside_of_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"fluent_errors {share} is not within 0\.\.1\. Give 0 for authors without"):
        TinyMath(fluent_errors=share)


def test_fewer_than_no_updates_on_experts_solutions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expert_steps -5 is negative\. Give 0 or more updates"):
        TinyMath(expert_steps=-5)
