from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from lit_prm.formats import read_groups
from lit_prm.tinymath import TinyMath
from lit_prm.tinymath import world as module
from lit_prm.tinymath.checker import first_error
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


def test_what_is_there_is_not_built_again(built_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train_base", "make_tokenizer", "LocalSampler", "write_problems"):
        monkeypatch.setattr(module, name, lambda *_, n=name, **__: pytest.fail(f"{n} was called"))
    before = contents(built_world)
    TinyMath(**{**MICRO, "workers": 3}).build(built_world)  # workers say how fast, not what
    assert contents(built_world) == before


def test_interrupted_sampling_keeps_the_split_that_was_done(
    built_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "test.jsonl").write_text("kept")
    monkeypatch.setattr(module, "LocalSampler", lambda *_, **__: pytest.fail("sampled again"))
    TinyMath(**MICRO)._sample(built_world, folder, "test")
    assert (folder / "test.jsonl").read_text() == "kept"


@pytest.mark.parametrize(("changed", "first"), [({"seed": 1}, "problems"), ({"lr": 1e-4}, "models"),
                                                ({"temperature": 1.0}, "rollouts"), ({}, None)])  # fmt: skip
def test_a_setting_decides_from_which_stage_on_a_world_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], first: str | None
) -> None:
    for name in ("_problems", "_models", "_sample", "_candidates"):
        monkeypatch.setattr(TinyMath, name, lambda *_: None)
    names = ["problems", "models", "rollouts", "candidates"]
    TinyMath(**MICRO).build(tmp_path)
    before = [os.readlink(tmp_path / name) for name in names]
    TinyMath(**{**MICRO, **changed}).build(tmp_path)
    after = [os.readlink(tmp_path / name) for name in names]
    same = [a == b for a, b in zip(before, after, strict=True)]
    assert same == [first is None or i < names.index(first) for i in range(4)]


@pytest.mark.parametrize(("folder", "split", "size", "each"), [
    ("rollouts", "train", 24, 8), ("candidates", "validation", 6, 4), ("candidates", "test", 6, 4)])  # fmt: skip
def test_every_problem_of_a_split_has_its_graded_responses_with_their_first_errors(
    micro_world: Path, folder: str, split: str, size: int, each: int
) -> None:
    problems = TinyMath(**MICRO).problem_texts()[split]
    groups = read_groups(str(micro_world / folder / f"{split}.jsonl")).groups
    assert [g.problem.text for g in groups] == [p.text for p in problems]
    assert [(g.problem.answer, g.problem.subject, g.problem.level) for g in groups] == [
        (p.answer, p.subject, p.level) for p in problems
    ]
    assert {len(g.rollouts) for g in groups} == {each}
    assert len(problems) == size
    for group, problem in zip(groups, problems, strict=True):
        for rollout in group.rollouts:
            assert rollout.first_error == first_error(problem, rollout.response)
            assert rollout.correct or rollout.first_error != -1  # right in every line is right
            assert rollout.correct == (rollout.answer == problem.answer)


def test_a_generator_later_than_the_base_is_refused() -> None:
    with pytest.raises(ValueError, match=r"generator_steps 9 is not within 1\.\.steps = 4"):
        TinyMath(steps=4, generator_steps=9)
