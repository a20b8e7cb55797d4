"""`exp --scale smol` from a local copy of the hub's data set to its table, as a stranger runs it."""

from __future__ import annotations

import pyarrow
import pyarrow.parquet
import pytest

from lit_prm.commands.main import main
from lit_prm.data.formats import read_groups
from lit_prm.training.worlds.smol import ROLLOUTS
from tests.integration.conftest import Desk, summary


@pytest.fixture
def copy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny world's own rollouts (not the paper's) in the columns and folders of the paper's data set."""
    rows = [
        {
            "prompt": group.problem.text,
            "reference": group.problem.answer,
            "dataset": "tinymath",
            "completions": [r.response for r in group.rollouts],
            "correctness": [r.correct for r in group.rollouts],
            "steps": [list(r.steps or ()) for r in group.rollouts],
        }
        for group in read_groups(str(desk.root / "rollouts" / "train.jsonl")).groups
    ]
    file = desk.folder / "copies" / ROLLOUTS / "data" / "train-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    monkeypatch.setenv("LIT_PRM_DATA", str(desk.folder / "copies"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(desk.folder / "cached"))


def test_the_scale_smol_trains_and_judges_on_held_out_problems_of_a_hub_data_set(desk: Desk, copy: None) -> None:
    """With the tiny world's model in place of SmolLM2, whose weights tests do not have."""
    sizes = ["--data.batch_size=16", "--trainer.accumulate_grad_batches=1", "--trainer.limit_train_batches=2"]
    sizes += ["--trainer.limit_val_batches=0", "--trainer.enable_progress_bar=false"]
    model = f"--base_model={desk.root / 'models' / 'base'}"
    main(["exp", "ce-8resp", "--scale=smol", model, "--trainer.logger=false", "--trainer.precision=32-true", *sizes])
    run = desk.folder / "runs" / "smol" / "ce-8resp" / "seed-0"
    assert "bon/test/acc@8" in summary(run)["metrics"]
    judged, trained = (read_groups(f".cache/smol/split/{name}.jsonl.gz").groups for name in ("test", "train"))
    assert (len(judged), len(trained)) == (4, 16)  # at most a fifth of 24 problems is held out, twice
    assert not {g.problem.text for g in judged} & {g.problem.text for g in trained}
