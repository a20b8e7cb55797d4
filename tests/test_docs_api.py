"""The scripts of docs/api.md run as they stand, in a folder of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
SCRIPTS = dict(re.findall(r"^## (\d\. .*?)\n.*?^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))

PRINTED = {  # what each script prints last, by its number
    "1": r"update 3: loss 0\.\d+",
    "2": r"\{'auc': [\d.]+, 'bon': 0\.5, 'majority': 0\.5\}",
    "3": r"best: .+",
    "4": r"best of 2: [\d.]+",
    "5": r"last loss: [\d.]+",
    "6": r"steps labelled by \{'of the file': 16\} last loss: [\d.]+",
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Starting from v1.9.0, `tensorboardX`"),
    pytest.mark.filterwarnings("ignore:.*`training_step` with a|.*no `val_dataloader`|.*number of training batches"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory|.*your dataloader is not resumable"),
]


@pytest.fixture
def rollouts(tmp_path: Path) -> str:
    """Eight sums with a right response of two steps and a wrong one."""
    file = tmp_path / "rollouts.jsonl"
    rows = [
        {
            "prompt": f"What is {a} + 2?",
            "completions": [f"{a} + 2 = {a + 2}\n\n\\boxed{{{a + 2}}}", f"{a} + 2 = {a}\n\n\\boxed{{{a}}}"],
            "correctness": [True, False],
            "reference": str(a + 2),
        }
        for a in range(8)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_there_are_six_scripts_of_about_thirty_lines() -> None:
    assert [title[0] for title in SCRIPTS] == list("123456")
    assert max(script.count("\n") for script in SCRIPTS.values()) <= 36


@pytest.mark.parametrize("title", SCRIPTS)
def test_a_script_runs_and_prints_its_result(
    title: str,
    policy_folder: Path,
    reference_folder: Path,
    rollouts: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    candidates = tmp_path / "candidates.jsonl"
    candidates.write_text(Path(rollouts).read_text().replace("What is", "How much is"))
    names = {
        "policy": str(policy_folder), "reference": str(reference_folder),
        "rollouts": rollouts, "candidates": str(candidates), "__name__": "script",
    }  # fmt: skip
    exec(compile(SCRIPTS[title], f"docs/api.md, {title}", "exec"), names)
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(PRINTED[title[0]], last)
