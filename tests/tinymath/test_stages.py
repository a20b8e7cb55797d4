from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_prm.training.worlds.stages import Stages


def writes(text: str, calls: list[str]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        calls.append(text)
        (folder / "file").write_text(text)

    return build


def never(folder: Path) -> None:
    pytest.fail(f"built {folder} again")


def two(root: Path, first: int, second: int, calls: list[str], source: str = "s") -> tuple[Path, Path]:
    stages = Stages(root, {"code": source})
    a = stages.make("a", {"n": first}, writes(f"a{first}", calls))
    return a, stages.make("b", {"n": second}, writes(f"b{second}", calls))


def test_a_stage_is_built_once_for_its_settings(tmp_path: Path) -> None:
    calls: list[str] = []
    assert two(tmp_path, 1, 1, calls) == two(tmp_path, 1, 1, calls)
    assert calls == ["a1", "b1"]
    assert (tmp_path / "a" / "file").read_text() == "a1"


def test_a_change_rebuilds_its_stage_and_what_comes_after_not_before(tmp_path: Path) -> None:
    calls: list[str] = []
    a, b = two(tmp_path, 1, 1, calls)
    same, other = two(tmp_path, 1, 2, calls)
    assert (same, calls) == (a, ["a1", "b1", "b2"])
    assert other != b
    two(tmp_path, 2, 1, calls)
    assert calls[3:] == ["a2", "b1"]
    two(tmp_path, 2, 1, calls, source="changed")
    assert calls[5:] == ["a2", "b1"]


def test_the_link_leads_to_the_settings_asked_for_last_and_old_ones_are_still_there(tmp_path: Path) -> None:
    calls: list[str] = []
    a1, _ = two(tmp_path, 1, 1, calls)
    two(tmp_path, 2, 1, calls)
    assert (tmp_path / "a" / "file").read_text() == "a2"
    two(tmp_path, 1, 1, calls)
    assert (tmp_path / "a").resolve() == a1.resolve()
    assert len(calls) == 4
    assert not os.path.isabs(os.readlink(tmp_path / "a"))  # the root may be moved


def test_interrupted_work_is_found_again_and_never_taken_for_done(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path, {}).make("a", {}, interrupted)
    assert not (tmp_path / "a").exists()
    found: list[list[str]] = []
    folder = Stages(tmp_path, {}).make("a", {}, lambda f: found.append([p.name for p in f.iterdir()]))
    assert found == [["half"]]
    assert Stages(tmp_path, {}).make("a", {}, never) == folder


def test_the_root_may_be_moved(tmp_path: Path) -> None:
    two(tmp_path / "old", 1, 1, [])
    (tmp_path / "old").rename(tmp_path / "new")
    stages = Stages(tmp_path / "new", {"code": "s"})
    stages.make("a", {"n": 1}, never)
    assert (tmp_path / "new" / "b" / "file").read_text() == "b1"
