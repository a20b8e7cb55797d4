"""Training stops before an update with NaN; its batch is saved, and no other update changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from callbacks import RefuseNonfinite
from lit_prm.data.batch import Encoded, collate
from lit_prm.data.batching import Cut, EncodedResponses
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.models.reference import Uniform
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.training.module import LitPRM
from lit_prm.training.schedule import WarmupCosine

pytestmark = pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")  # updates alone are looked at

BAD = 2  # the problem whose responses spoil an update


class Spoils(CE):
    """Cross-entropy, but for problem 2, whose terms are NaN."""

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        return torch.where(group == BAD, math.nan, 1.0) * super().__call__(rewards, labels, group)


class SpoilsGradients(CE):
    """Finite, but its gradient is not."""

    def __call__(self, rewards: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        terms = super().__call__(rewards, labels, group)
        return terms + (rewards - rewards.detach()).abs().sqrt() if BAD in group else terms


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    """Four problems with a right and a wrong response each."""
    groups = [
        Group(
            problem=Problem(prompt=f"What is problem {p}?", id=str(p)),
            rollouts=tuple(Rollout(response=f"it is {p}{right}", correct=right) for right in (True, False)),
        )
        for p in range(4)
    ]
    return Encoder(tokenizer, BlankLine()).encode(groups)


def train(folder: Path, rows: list[Encoded], policy: Path, loss: Loss) -> tuple[LitPRM, Trainer]:
    """Two updates of two micro-batches: problems 0 and 1, then 2 and 3."""
    model = LitPRM(ImplicitReward(str(policy), Uniform(), beta=0.3), loss, schedule=WarmupCosine(0, 1))
    updates = [tuple(range(4)), tuple(range(4, 8))]
    cuts = [Cut(update[i : i + 2], update) for update in updates for i in (0, 2)]
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[RefuseNonfinite(str(folder))],
    )  # fmt: skip
    loader: DataLoader[Any] = DataLoader(EncodedResponses(rows), sampler=cuts, batch_size=None)
    try:
        trainer.fit(model, loader)
    except ValueError:
        assert model.policy is not None
        assert all(torch.isfinite(p).all() for p in model.policy.parameters())
        assert trainer.global_step == 1
        raise
    return model, trainer


def test_finite_updates_are_made_and_their_gradients_norm_is_logged(
    tmp_path: Path, rows: list[Encoded], policy_folder: Path
) -> None:
    _, trainer = train(tmp_path, rows, policy_folder, CE())
    assert trainer.global_step == 2
    assert 0 < trainer.callback_metrics["train/grad_norm"] < math.inf
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("loss", "told"),
    [(Spoils(), "loss is nan, the gradient norm nan"), (SpoilsGradients(), r"loss is \d.*, the gradient norm nan")],
)
def test_a_spoilt_update_is_not_made_and_its_batch_is_kept(
    loss: Loss, told: str, tmp_path: Path, rows: list[Encoded], policy_folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ValueError, match=rf"{told}.* at update 2, .*beta 0\.3\. .*intact\. {tmp_path}/bad-batch\.pt"):
        train(tmp_path, rows, policy_folder, loss)
    kept = torch.load(tmp_path / "bad-batch.pt", weights_only=True)
    assert kept["update"] == 2
    assert "tokenizer.decode(ids[i, prompt_length[i]:length[i]])" in kept["about"]
    first, second = kept["batches"]
    assert (first["group"].tolist(), second["row"].tolist()) == ([2, 2], [6, 7])
    assert first["labels"].tolist() == [1, 0]
    ids, start, end = first["ids"][1], int(first["prompt_length"][1]), int(first["length"][1])
    assert str(tokenizer.decode(ids[start:end])).startswith("it is 2False")
    assert first["rewards"].shape == (2,)
    assert torch.isfinite(first["rewards"]).all()


def test_an_engine_that_accumulates_itself_is_looked_at_once_an_update(
    tmp_path: Path, rows: list[Encoded], policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under ZeRO: the hook comes with every micro-batch."""
    looks = list[int]()
    monkeypatch.setattr("callbacks.finite._gradient_norm", lambda trainer, module: looks.append(trainer.global_step))
    monkeypatch.setattr(SingleDeviceStrategy, "handles_gradient_accumulation", True)
    callback, batch = RefuseNonfinite(str(tmp_path)), collate(rows[:2])
    trainer = Trainer(accelerator="cpu", accumulate_grad_batches=3, logger=False, enable_checkpointing=False)
    module = LitPRM(ImplicitReward(str(policy_folder), Uniform()), CE())
    for batch_idx in range(6):
        callback.on_train_batch_start(trainer, module, batch, batch_idx)
        callback.on_before_backward(trainer, module, torch.tensor(1.0))
        callback.on_before_optimizer_step(trainer, module, torch.optim.SGD([torch.zeros(1)]))
    assert len(looks) == 2
