"""Weights go where they belong or nowhere; a sharded checkpoint is one when a whole part of it has a name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lit_prm.data.batch import Encoded, collate
from lit_prm.models.language_model import load_model
from lit_prm.models.logps import token_logps
from lit_prm.models.weights import weights_hash
from lit_prm.models.zero_weights import (
    LATEST,
    as_many_on_every_rank,
    consolidated,
    only_plain_values,
    put_weights,
    standing,
    state_of,
    whole_in_turn,
)
from lit_prm.training.zero import _make_current, _part_to_write
from tests.conftest import Touch


def tied() -> nn.Module:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "norm": nn.BatchNorm1d(3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    return model


def test_weights_that_are_put_are_those_that_were_taken() -> None:
    a, b = tied(), tied()
    put_weights(b, a.state_dict())
    assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
    assert b["head"].weight is b["embed"].weight  # type: ignore[index]


def test_what_may_be_missing_stays() -> None:
    a, b = tied(), tied()
    before = b["embed"].weight.clone()  # type: ignore[index]
    names = ("embed.weight", "head.weight")
    put_weights(b, {k: v for k, v in a.state_dict().items() if k not in names}, may_miss=names)
    assert torch.equal(b["embed"].weight, before)  # type: ignore[index]


def test_frozen_weights_that_are_missing_stay_and_no_others() -> None:
    a, b = tied(), tied()
    b["norm"].requires_grad_(False)  # type: ignore[index]
    weights = {k: v for k, v in a.state_dict().items() if k not in ("norm.weight", "norm.bias")}
    put_weights(b, weights)
    with pytest.raises(ValueError, match=r"no norm\.weight; no norm\.bias"):
        put_weights(tied(), weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("norm.weight"), "no norm.weight"),
        (lambda w: w.update(other=torch.zeros(1)), "other, which the model does not have"),
        (lambda w: w.update({"norm.weight": torch.zeros(4)}), r"norm.weight of \(4,\), not \(3,\)"),
    ],
)
def test_weights_of_another_model_are_refused_and_nothing_is_put(change: object, message: str) -> None:
    model = tied()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = tied().state_dict()
    change(weights)  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"The weights are not those of this ModuleDict: they have .*{message}"):
        put_weights(model, weights)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_model_that_is_not_cut_is_left_alone() -> None:
    layer = nn.Linear(2, 2)
    with whole_in_turn(layer):
        assert layer(torch.ones(1, 2)).shape == (1, 2)
        assert not layer._forward_pre_hooks
    assert as_many_on_every_rank(3, layer) == 3


def test_a_layer_that_raises_is_cut_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is the model around it, which is then left as well."""

    class Raises(nn.Linear):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError

    held = list[int]()

    @contextmanager
    def gathered(parameters: Iterator[nn.Parameter], *, write: bool = False) -> Iterator[None]:
        size = sum(p.numel() for p in parameters)
        held.append(size)
        yield
        held.remove(size)

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.fine, self.raises = nn.Parameter(torch.ones(5)), nn.Linear(2, 2), Raises(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            at_work.append(sorted(held))
            return self.raises(self.fine(x))  # type: ignore[no-any-return]

    at_work = list[list[int]]()
    model = Around()
    for parameter in model.parameters():
        parameter.ds_id = 0  # type: ignore[attr-defined]  # as DeepSpeed marks it
    monkeypatch.setattr("lit_prm.models.zero_weights.whole", gathered)
    with pytest.raises(ZeroDivisionError), whole_in_turn(model):
        model(torch.ones(1, 2))
    assert (at_work, held) == ([[5]], [])


def test_ranks_agree_on_the_largest_number_of_calls_of_a_layer_that_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(2, 2)
    layer.weight.ds_id = 0  # type: ignore[attr-defined]  # as DeepSpeed marks it

    def other_rank_has_five(count: torch.Tensor, op: object) -> None:
        assert op == torch.distributed.ReduceOp.MAX
        count.clamp_(min=5)

    monkeypatch.setattr(torch.distributed, "all_reduce", other_rank_has_five)
    assert as_many_on_every_rank(3, layer) == 5
    assert as_many_on_every_rank(7, layer) == 7


def test_calls_of_the_head_for_other_ranks_change_no_log_prob_and_no_gradient(
    policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    step = np.zeros(9, dtype=np.int32)
    rows = [Encoded(rng.integers(300, size=12).astype(np.int32), 3, step, 1.0, 0, row) for row in range(2)]

    def asked() -> tuple[torch.Tensor, torch.Tensor]:
        policy = load_model(str(policy_folder))
        logps = token_logps(policy, collate(rows), chunk=8)
        logps.sum().backward()
        return logps.detach(), policy.get_input_embeddings().weight.grad  # type: ignore[return-value]

    expected = asked()
    monkeypatch.setattr("lit_prm.models.logps.as_many_on_every_rank", lambda count, head: count + 4)
    assert all(torch.equal(a, b) for a, b in zip(asked(), expected, strict=True))


# --- folders -----------------------------------------------------------------------------------------


def save(target: Path, content: str, *, killed: bool = False) -> None:
    """As the strategy does, with one file for all that DeepSpeed writes."""
    folder, part = _part_to_write(target)
    (folder / part).mkdir(parents=True)
    (folder / part / "mp_rank_00_model_states.pt").write_text(content)
    if not killed:
        _make_current(folder, part, target)


def read(target: Path) -> str:
    return (standing(target) / "mp_rank_00_model_states.pt").read_text()


def test_a_save_that_is_killed_leaves_the_checkpoint_that_stood(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    save(last, "first", killed=True)
    assert not last.exists()  # so nobody takes it for one
    for content in ("second", "third", "fourth"):
        save(last, "half", killed=True)
        save(last, content)
        assert read(last) == content
        save(last, "half", killed=True)
        assert read(last) == content


def test_a_folder_holds_one_state_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    for content in ("first", "second", "third"):
        save(tmp_path / "last.ckpt", content)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert len(list((tmp_path / "last.ckpt").iterdir())) == 2  # its part, and the name of that


def test_the_hash_of_a_folder_is_that_of_its_state(tmp_path: Path) -> None:
    save(tmp_path / "a", "one")
    save(tmp_path / "b", "other")
    save(tmp_path / "b", "one")
    assert weights_hash(str(tmp_path / "a")) == weights_hash(str(tmp_path / "b"))
    save(tmp_path / "b", "other")
    assert weights_hash(str(tmp_path / "a")) != weights_hash(str(tmp_path / "b"))


def test_a_folder_without_a_whole_part_is_refused(tmp_path: Path) -> None:
    for read_it in (consolidated, state_of):
        with pytest.raises(
            ValueError, match="is not a checkpoint: it has no file 'latest', which names its complete part"
        ):
            read_it(tmp_path)


def test_a_released_model_with_the_name_of_a_part_that_is_not_there_is_hashed_by_its_weights(
    policy_folder: Path, tmp_path: Path
) -> None:
    """As on the hub: the text file `latest`, without the folder it names."""
    folder = shutil.copytree(policy_folder, tmp_path / "model")
    (folder / "latest").write_text("global_step470")
    assert weights_hash(str(folder)) == weights_hash(str(policy_folder))
    (folder / "global_step470").mkdir()
    (folder / "global_step470" / "mp_rank_00_model_states.pt").write_text("one")
    assert weights_hash(str(folder)) == weights_hash(str(policy_folder))
    (folder / "model.safetensors").write_bytes(b"others")
    assert weights_hash(str(folder)) != weights_hash(str(policy_folder))


@pytest.mark.parametrize("names", [(), ("config.json",), ("latest",), ("tokenizer.json",)])
def test_a_folder_without_weights_has_no_hash(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("global_step470")
    with pytest.raises(ValueError, match=r"holds no weights: no file \*.safetensors or \*.bin"):
        weights_hash(str(tmp_path))


NUMBERS = torch.arange(64.0)


def part_of_zero(folder: Path, **more: Any) -> Path:
    """Files of a sharded checkpoint, with the objects of DeepSpeed that real ones hold."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    (folder / "checkpoint").mkdir(parents=True)
    (folder / LATEST).write_text("checkpoint")
    torch.save({"module": {"w": torch.ones(2)}, "epoch": 1, **more}, folder / "checkpoint/mp_rank_00_model_states.pt")
    optimizer = {
        "state": NUMBERS,
        "loss_scaler": LossScaler(1.0),
        "zero_stage": ZeroStageEnum(2),
        "at": fragment_address(1, 0),
    }
    torch.save({"optimizer_state_dict": optimizer}, folder / "checkpoint/zero_pp_rank_0_mp_rank_00_optim_states.pt")
    return folder


def test_parts_of_a_sharded_checkpoint_are_read_as_plain_values(tmp_path: Path) -> None:
    folder = part_of_zero(tmp_path / "last.ckpt")
    with only_plain_values(standing(folder)):  # as DeepSpeed asks for them
        found = torch.load(folder / "checkpoint/zero_pp_rank_0_mp_rank_00_optim_states.pt", weights_only=False)
    assert found["optimizer_state_dict"]["zero_stage"] == 2
    assert state_of(folder)["epoch"] == 1
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_no_object_in_a_sharded_checkpoint_is_made(tmp_path: Path) -> None:
    folder = part_of_zero(tmp_path / "last.ckpt", hidden=Touch(tmp_path / "touched"))
    for read_it in (consolidated, state_of):
        with pytest.raises(ValueError, match="holds objects that are neither tensors nor plain values"):
            read_it(folder)
    assert not (tmp_path / "touched").exists()


def test_a_wrong_bit_in_a_sharded_checkpoint_is_told(tmp_path: Path) -> None:
    folder = part_of_zero(tmp_path / "last.ckpt")
    file = folder / "checkpoint/zero_pp_rank_0_mp_rank_00_optim_states.pt"
    content = bytearray(file.read_bytes())
    content[content.index(NUMBERS.numpy().tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"optim_states.pt is damaged \("):
        consolidated(folder)
