from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import PreTrainedTokenizerFast

from callbacks import BestOfN, StepBench
from callbacks.collected import by_row
from lit_prm.data.batch import Batch, collate
from lit_prm.data.batching import EncodedResponses, TokenBudget
from lit_prm.data.steps import Newline
from lit_prm.evaluation.discrimination import Scored
from lit_prm.evaluation.evaluate import Judgement, judge
from lit_prm.evaluation.rows import read_rows
from lit_prm.evaluation.vote_weights import Sigmoid
from lit_prm.losses.ce import CE
from lit_prm.models.reference import Frozen
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.module import LitPRM
from lit_prm.training.outputs import Scores
from tests.candidate_sets import candidate_set, scored

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")


def collected(given: Scored, *parts: list[int]) -> list[Scores]:
    """The rows of each part as a validation batch hands them out, its steps cut to the widest row."""
    out = []
    for rows in parts:
        width = int(given.valid[rows].sum(1).max())
        steps, valid, ref, exists = (torch.from_numpy(f[rows][:, :width]) for f in given[1:])
        row = torch.stack([torch.zeros(len(rows), dtype=torch.long), torch.tensor(rows)], 1)
        out.append(Scores(row, torch.from_numpy(given.reward[rows]), steps, valid, ref, exists))
    return out


# --- laws -----------------------------------------------------------------------------------------


def test_order_batches_and_repetition_of_rows_do_not_matter(tokenizer: PreTrainedTokenizerFast) -> None:
    candidates = candidate_set(tokenizer)
    given = scored(candidates, decimals=3)
    rows = list(range(len(candidates.encoded)))
    for parts in ([rows], [rows[::-1]], [rows[5:], rows[:5]], [[r] for r in rows], [rows[:9], rows[3:], rows]):
        found = by_row(candidates, collected(given, *parts))
        for name, wanted in given._asdict().items():
            np.testing.assert_allclose(getattr(found, name), wanted)


def test_a_response_that_was_not_scored_is_an_error_with_the_remedy(tokenizer: PreTrainedTokenizerFast) -> None:
    candidates = candidate_set(tokenizer)
    some = collected(scored(candidates), [0, 2, 3])
    missing = len(candidates.encoded) - 3
    with pytest.raises(RuntimeError, match=rf"'set': {missing} of .* were not scored\. .*data\.limit_candidates"):
        by_row(candidates, some)
    with pytest.raises(RuntimeError, match="were not scored"):
        by_row(candidates, [])


@pytest.mark.parametrize("aggregates", [[], ["min", "minimum"]])
def test_unknown_aggregates_are_refused_when_it_is_made(aggregates: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one of min, sum, mean"):
        BestOfN("x", aggregates)


# --- through the trainer --------------------------------------------------------------------------


def data_of(world: Path, **settings: Any) -> RolloutDataModule:
    given = {
        "validation": {"v": "candidates/validation.jsonl", "w": "candidates/test.jsonl"},
        "test": {"w": "candidates/test.jsonl"}, "steps": Newline(), "batch_size": 48, **settings,
    }  # fmt: skip
    return RolloutDataModule(str(world / "models/base"), "rollouts/train.jsonl", root=str(world), **given)


def model_of(world: Path) -> LitPRM:
    reference = Frozen(str(world / "models/generator"))
    model = LitPRM(ImplicitReward(str(world / "models/base"), reference, beta=2.0), CE())
    return model


def trainer_of(*callbacks: Any, **settings: Any) -> Trainer:
    given = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0, **settings}
    return Trainer(
        accelerator="cpu", max_epochs=1, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=list(callbacks), **given,
    )  # fmt: skip


def judged(world: Path) -> dict[str, Judgement]:
    """What every candidate set is judged to be when each response is scored alone."""
    data, model = data_of(world), model_of(world)
    data.setup("validate")
    model.configure_model()
    out = {}
    for candidates in data.candidates("validate"):
        with torch.no_grad():
            scores = [model.score(collate([row])) for row in candidates.encoded]
        rows = [s._replace(row=torch.stack([s.row, s.row], 1)) for s in scores]
        out[candidates.name] = judge(candidates, by_row(candidates, rows), ["min", "sum", "mean"], Sigmoid())
    return out


@pytest.mark.parametrize("eval_tokens", [400, 16384])
def test_validation_logs_the_judgement_of_every_set_however_it_is_batched(
    micro_world: Path, tmp_path: Path, eval_tokens: int
) -> None:
    trainer = trainer_of(BestOfN(str(tmp_path)))
    trainer.validate(model_of(micro_world), data_of(micro_world, eval_tokens=eval_tokens), verbose=False)
    wanted = {k: v for judgement in judged(micro_world).values() for k, v in judgement.metrics.items()}
    found = {k: float(v) for k, v in trainer.callback_metrics.items()}
    assert {"bon/v/acc@4", "bon/w/acc@4", "vote/v/sum/acc@2", "bon/v/level-1/acc@4"} <= found.keys()
    assert found == {k: pytest.approx(v, abs=1e-4) for k, v in wanted.items()}


def test_test_judges_and_keeps_the_test_sets_alone(micro_world: Path, tmp_path: Path) -> None:
    trainer = trainer_of(BestOfN(str(tmp_path)))
    trainer.test(model_of(micro_world), data_of(micro_world), verbose=False)
    assert {key.split("/")[1] for key in trainer.callback_metrics} == {"w"}
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["w-problems.jsonl.gz", "w.jsonl.gz", "w.png"]
    rows = read_rows(tmp_path / "scores" / "w.jsonl.gz")
    given = judged(micro_world)["w"].scores["sum"]
    assert [row["scores"]["sum"] for row in rows] == pytest.approx(given.tolist(), abs=1e-3)
    assert [row["reward"] for row in rows] == pytest.approx(given.tolist(), abs=1e-3)


def test_a_line_tells_every_validation_of_a_training(
    micro_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(BestOfN(str(tmp_path)))
    trainer.fit(model_of(micro_world), datamodule=data_of(micro_world))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if ": v: best of" in line]
    found = trainer.callback_metrics
    n = max(int(key.rpartition("@")[2]) for key in found if key.startswith("majority/v/acc@") and key[-1].isdigit())
    told = [f"{100 * found[f'{rule}/v/acc@{n}']:.1f}" for rule in ("bon", "vote", "majority")]
    assert line == (
        f"update {trainer.global_step}: v: best of {n} {told[0]}, weighted vote {told[1]}, majority {told[2]}, "
        f"one at random {100 * found['bon/v/acc@1']:.1f}"
    )


def test_a_checkpoint_callback_can_monitor_it(micro_world: Path, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="bon/v/acc@4", mode="max")
    trainer = trainer_of(BestOfN(str(tmp_path)), best, enable_checkpointing=True)
    trainer.fit(model_of(micro_world), data_of(micro_world))
    assert best.best_model_score == trainer.callback_metrics["bon/v/acc@4"]
    assert Path(best.best_model_path).exists()


@pytest.mark.parametrize("settings", [{"fast_dev_run": True}, {"num_sanity_val_steps": 1, "limit_train_batches": 0}])
def test_a_run_over_a_few_batches_judges_and_leaves_nothing(
    micro_world: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    trainer = trainer_of(BestOfN(str(tmp_path)), **settings)
    trainer.fit(model_of(micro_world), data_of(micro_world, eval_tokens=400))
    assert not [key for key in trainer.callback_metrics if key.startswith("bon/")]
    assert list(tmp_path.iterdir()) == []


def test_evaluation_batches_of_this_test_do_cut_the_sets(micro_world: Path) -> None:
    data = data_of(micro_world)
    data.setup("validate")
    encoded = data.candidates("validate")[0].encoded
    assert len(TokenBudget(encoded, 400)) > 3
    assert len(EncodedResponses(encoded)[next(iter(TokenBudget(encoded, 400)))].row) > 1


# --- with a LightningModule of one's own ------------------------------------------------------------


class OwnModule(LightningModule):
    """Scores every step by its number, or returns ``outputs`` instead."""

    def __init__(self, outputs: Any = None, keys: tuple[str, ...] = ("row", "steps", "valid")) -> None:
        super().__init__()
        self.outputs, self.keys = outputs, keys

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        valid = torch.stack([(batch.step == s).any(1) for s in range(int(batch.step.max()) + 1)], 1)
        steps = torch.arange(valid.shape[1]).expand(valid.shape).float()
        columns = {"row": batch.row, "steps": steps, "valid": valid}
        return self.outputs if self.outputs is not None else {key: columns[key] for key in self.keys}


def test_ones_own_module_is_judged_by_row_steps_and_valid(micro_world: Path, tmp_path: Path) -> None:
    trainer = trainer_of(BestOfN(str(tmp_path), aggregates=["sum", "last"]), StepBench())
    trainer.test(OwnModule(), data_of(micro_world), verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert {"bon/w/acc@4", "vote/w/last/acc@2", "outcome/w/auc", "steps/w/first_error_found"} <= metrics.keys()
    assert "processbench/w/f1" in metrics
    assert not [name for name in metrics if "reference" in name]  # none was given
    assert not [name for name, value in metrics.items() if np.isnan(value)]
    rows = read_rows(tmp_path / "scores" / "w.jsonl.gz")
    assert all(row["scores"]["last"] == len(row["step_rewards"]) - 1 for row in rows if None not in row["step_rewards"])
    assert all(row["reward"] == row["scores"]["sum"] for row in rows)


UNFIT = {"row": torch.zeros(2), "steps": torch.zeros(3, 2), "valid": torch.zeros(3, 2)}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            OwnModule(keys=("row",)),
            r"OwnModule\.test_step returned a mapping with row\..*missing: steps, valid\..*batch\.row",
        ),
        (OwnModule(torch.ones(3)), r"OwnModule\.test_step returned Tensor\..*missing: row, steps, valid"),
        (OwnModule(UNFIT), r"returned row \[2\], steps \[3, 2\], valid \[3, 2\]\. The shapes must be row \[B\]"),
    ],
    ids=["keys", "type", "shape"],
)
def test_outputs_that_cannot_be_judged_are_refused_with_the_missing_keys(
    micro_world: Path, tmp_path: Path, module: OwnModule, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trainer_of(BestOfN(str(tmp_path))).test(module, data_of(micro_world), verbose=False)


def test_a_data_module_without_candidates_is_refused_with_the_remedy(micro_world: Path, tmp_path: Path) -> None:
    data = data_of(micro_world)
    data.setup("test")
    with pytest.raises(ValueError, match=r"BestOfN needs the problems.*NoneType.*datamodule=RolloutDataModule"):
        trainer_of(BestOfN(str(tmp_path))).test(OwnModule(), data.test_dataloader(), verbose=False)
