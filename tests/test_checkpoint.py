"""A checkpoint file is whole whenever it exists; the last one is there when training ends."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks import AtomicCheckpointIO, LastCheckpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # nothing to load in parallel
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),  # every datum is the same
]


class Line(LightningModule):
    """One weight, one update per batch; notes what its random numbers were."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.drawn: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.drawn.append(torch.rand(()).item())
        loss: Tensor = self.layer(batch[0]).square().mean()
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("validation/step", float(self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Counts(Callback):
    """Learns something from every validation, as RunRecord does."""

    def __init__(self) -> None:
        self.validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations += 1

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}


class Watched(LastCheckpoint):
    """Notes the update of every save."""

    def __init__(self, folder: str, every_n_updates: int) -> None:
        super().__init__(folder, every_n_updates)
        self.saves: list[int] = []
        self.within_update: list[int] = []

    def save(self, trainer: Trainer) -> None:
        super().save(trainer)
        self.saves.append(trainer.global_step)
        self.within_update.append(
            trainer.fit_loop.epoch_loop.batch_progress.total.ready % trainer.accumulate_grad_batches
        )


def train(folder: Path, *callbacks: Callback, ckpt: str | None = None, **options: Any) -> tuple[Trainer, Line]:
    """Four updates, validated after the second and the last."""
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=folder, callbacks=list(callbacks), plugins=[AtomicCheckpointIO()],
        **{"max_epochs": 1, "val_check_interval": 2, **options},
    )  # fmt: skip
    model = Line()
    data = DataLoader(TensorDataset(torch.ones(4, 1)))
    trainer.fit(model, data, DataLoader(TensorDataset(torch.ones(1, 1))), ckpt_path=ckpt, weights_only=False)
    return trainer, model


def test_saves_at_its_rhythm_and_at_the_end(tmp_path: Path) -> None:
    assert self_saves(tmp_path, 1) == [1, 2, 3, 4, 4]
    assert self_saves(tmp_path, 3) == [3, 4]
    assert self_saves(tmp_path, 50) == [4]


def self_saves(folder: Path, every: int) -> list[int]:
    last = Watched(str(folder), every)
    train(folder, last)
    return last.saves


@pytest.mark.parametrize("every", [1, 2, 4, 50])
def test_the_last_file_knows_the_last_validation(every: int, tmp_path: Path) -> None:
    train(tmp_path, LastCheckpoint(str(tmp_path), every), Counts())
    state = torch.load(tmp_path / "last.ckpt", weights_only=False)["callbacks"]
    assert state["Counts"] == {"validations": 2}


def test_a_save_due_before_a_validation_waits_for_its_end(tmp_path: Path) -> None:
    """Else a run stopped in that validation would never do it."""
    last, counts = Watched(str(tmp_path), 2), Counts()
    seen = []

    class Look(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(list(last.saves))

    train(tmp_path, last, counts, Look())
    assert seen == [[], [2]]
    assert last.saves == [2, 4, 4]


def test_a_save_due_at_an_epochs_end_comes_there_when_nothing_is_validated(tmp_path: Path) -> None:
    last = Watched(str(tmp_path), 2)
    train(tmp_path, last, max_epochs=2, accumulate_grad_batches=2, limit_val_batches=0)
    assert last.saves == [2, 4, 4]
    assert last.within_update == [0, 0, 0]


def test_no_save_comes_within_an_update_though_training_goes_on_from_one(tmp_path: Path) -> None:
    """The gradients of half an update are in no file."""

    class Stop(Exception): ...

    class Stops(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step == 1:
                raise Stop

    how: dict[str, Any] = {"accumulate_grad_batches": 2, "limit_val_batches": 0}
    with pytest.raises(Stop):
        train(tmp_path, Watched(str(tmp_path), 1), Stops(), **how)
    again = Watched(str(tmp_path), 1)
    train(tmp_path, again, ckpt=str(tmp_path / "last.ckpt"), **how)
    assert again.saves == [2, 2]
    assert again.within_update == [0, 0]


def test_every_rank_goes_on_with_its_own_random_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.Generator().manual_seed(seed).get_state() for seed in (1, 2)]
    monkeypatch.setattr("callbacks.checkpoint._rank", lambda: 1)
    last = LastCheckpoint(str(tmp_path))
    last.load_state_dict({"generators": states})
    with torch.random.fork_rng():
        last.on_train_batch_start(None, None, None, 0)  # type: ignore[arg-type]
        assert torch.equal(torch.get_rng_state(), states[1])


def test_no_other_checkpoint_is_added_beside_it(tmp_path: Path) -> None:
    trainer, _ = train(tmp_path / "here", LastCheckpoint(str(tmp_path / "here"), 50))
    assert [type(c) for c in trainer.checkpoint_callbacks] == [LastCheckpoint]
    assert issubclass(LastCheckpoint, Checkpoint)
    assert [p.name for p in (tmp_path / "here").rglob("*")] == ["last.ckpt"]


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    """The state in the file is that of the save, whatever was drawn before training goes on."""

    class Stop(Exception): ...

    class Stops(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                raise Stop

    whole = train(tmp_path / "a", LastCheckpoint(str(tmp_path / "a"), 1))[1].drawn
    with pytest.raises(Stop):
        train(tmp_path / "b", LastCheckpoint(str(tmp_path / "b"), 1), Stops())
    _, model = train(tmp_path / "b", LastCheckpoint(str(tmp_path / "b"), 1), ckpt=str(tmp_path / "b" / "last.ckpt"))
    assert model.drawn[0] == whole[3]


def test_a_fast_dev_run_saves_nothing(tmp_path: Path) -> None:
    train(tmp_path, LastCheckpoint(str(tmp_path), 1), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_rhythm_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="every_n_updates is 0; it must be at least 1"):
        LastCheckpoint("x", 0)


def test_a_save_that_breaks_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, target = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"update": 1}, target)

    def breaks(checkpoint: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", breaks)
    with pytest.raises(OSError, match="disk full"):
        io.save_checkpoint({"update": 2}, target)
    assert torch.load(target, weights_only=True) == {"update": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_killed_saves_left_is_removed_by_the_next(tmp_path: Path) -> None:
    for name in (".last.ckpt.4711.partial", ".other.ckpt.4711.partial"):
        (tmp_path / name).write_bytes(b"half")
    AtomicCheckpointIO().save_checkpoint({"update": 1}, tmp_path / "last.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.ckpt.4711.partial", "last.ckpt"]


def test_a_full_disk_is_told_with_the_file_that_needed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *mode: opens(Path("/dev/full"), *mode))
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/last\.ckpt'"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "last.ckpt")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        AtomicCheckpointIO().save_checkpoint({"update": 1}, tmp_path / "file" / "last.ckpt")
