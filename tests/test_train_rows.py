"""What a loss is trained on, and what the data module gives it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lit_prm.data.batch import Encoded
from lit_prm.data.encoding import Encoder
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.regimes import Added, Balanced
from lit_prm.generation.labeling import Labeler
from lit_prm.generation.labeling.base import Labelled
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.steps import StepCE
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.trainable import with_a_term, with_step_labels


def group(name: str, *labels: bool, marks: tuple[float, ...] | None = None) -> Group:
    steps = ("a\n", "b")
    made = (Rollout(response="a\nb", correct=right, steps=steps, step_labels=marks) for right in labels)
    return Group(problem=Problem(prompt=name, id=name), rollouts=tuple(made))


def row(problem: int, label: float, at: int) -> Encoded:
    return Encoded(np.arange(4, dtype=np.int32), 2, np.zeros(2, np.int32), label, problem, at)


def test_only_a_loss_of_contrasts_leaves_problems_of_one_kind_out() -> None:
    rows = [row(0, 1, 0), row(0, 1, 1), row(1, 0, 2), row(1, 1, 3), row(2, 0, 4)]
    assert with_a_term(rows, CE()) == rows
    kept = with_a_term(rows, DPO())
    assert [(r.group, r.row) for r in kept] == [(1, 0), (1, 1)]
    with pytest.raises(ValueError, match="DPO compares right with wrong responses and no problem has both"):
        with_a_term(rows[:2], DPO())


def test_a_loss_of_steps_keeps_the_responses_whose_steps_are_labelled() -> None:
    groups = [group("known", True, marks=(1.0, 0.0)), group("unknown", False)]
    assert with_step_labels(groups, CE(), "f") == groups
    assert with_step_labels(groups, StepCE(), "f") == groups[:1]
    with pytest.raises(ValueError, match=r"StepCE trains on labels of steps and f has none\. Set data\.labeler"):
        with_step_labels(groups[1:], StepCE(), "f")


# --- through the data module -------------------------------------------------------------------------


class Marks(Labeler):
    """Every step is half right."""

    def label(self, groups: Any, encoder: Encoder, device: torch.device) -> Labelled:
        marked = [Group(problem=g.problem, rollouts=tuple(_half(r) for r in g.rollouts)) for g in groups]
        return Labelled(marked, {"generated": 7})


def _half(rollout: Rollout) -> Rollout:
    return Rollout(response=rollout.response, correct=rollout.correct, steps=("a\n", "b"), step_labels=(0.5, 0.5))


def fitted(folder: Path, tokenizer: Path, loss: Loss, **settings: Any) -> RolloutDataModule:
    write_groups(folder / "train.jsonl", [group("one?", True, False), group("two?", True, True), group("six?", False)])
    write_groups(folder / "more.jsonl", [group("more?", True, False)])
    data = RolloutDataModule(
        str(tokenizer), "train.jsonl", root=str(folder), files={"more": "more.jsonl"}, batch_size=2, **settings
    )
    strategy = SimpleNamespace(root_device=torch.device("cpu"), barrier=lambda: None)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=SimpleNamespace(loss=loss), strategy=strategy, is_global_zero=True, global_rank=0,
        world_size=1, accumulate_grad_batches=1,
    )  # fmt: skip
    data.setup("fit")
    return data


def trained(data: RolloutDataModule) -> list[Any]:
    return list(data.train_dataloader())


def test_the_loss_decides_what_rows_there_are(tmp_path: Path, policy_folder: Path) -> None:
    assert sum(len(b.row) for b in trained(fitted(tmp_path, policy_folder, CE()))) == 5
    pairs = fitted(tmp_path, policy_folder, DPO())
    assert sum(len(b.row) for b in trained(pairs)) == 2
    assert pairs.spent()["rollout_responses"] == 5  # all were sampled and graded
    first, *others = trained(fitted(tmp_path, policy_folder, KTO(), shared_problems="allow"))
    assert first.mismatched
    assert all(b.mismatched for b in others)
    assert not trained(pairs)[0].mismatched


def test_a_stored_reference_is_filled_for_mismatched_rows_too(tmp_path: Path, policy_folder: Path) -> None:
    def rows(loss: Loss) -> int:
        return sum(len(b.row) for loader in fitted(tmp_path, policy_folder, loss).every_loader() for b in loader)

    assert rows(KTO()) == 2 * rows(CE())


def test_a_labelers_labels_reach_the_batches_and_its_cost_the_account(tmp_path: Path, policy_folder: Path) -> None:
    data = fitted(tmp_path, policy_folder, StepCE(), labeler=Marks())
    assert all((b.step_labels == 0.5).all() for b in trained(data))
    assert data.spent()["labelling_generated_tokens"] == 7
    bare = trained(fitted(tmp_path, policy_folder, CE()))
    assert all(b.step_labels.isnan().all() for b in bare)


def test_regimes_follow_one_another_and_may_ask_for_other_files(tmp_path: Path, policy_folder: Path) -> None:
    data = fitted(tmp_path, policy_folder, CE(), regimes=[Balanced("problem"), Added(["more"])])
    assert data.report is not None
    assert (data.report.problems, data.report.responses) == (2, 4)
    assert set(data.digests()) == {"train", "more"}
    with pytest.raises(
        ValueError, match=r"needs the file 'less', and data\.files has: more\. Add --data\.files\.less PATH"
    ):
        fitted(tmp_path, policy_folder, CE(), regimes=[Added(["less"])])
