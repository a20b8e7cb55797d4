"""Weights that ZeRO-3 has sharded over ranks: gathered for a moment in memory, or read from a checkpoint's folder."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lit_prm.storage.checkpoint_files import read_checkpoint

Item = TypeVar("Item")

LATEST = "latest"  # file that names the complete part of a checkpoint's folder; DeepSpeed's own name


def is_cut(parameter: nn.Parameter) -> bool:
    """True if this process holds only a shard of the parameter, as under ZeRO-3."""
    return hasattr(parameter, "ds_id")


@contextmanager
def whole(parameters: Iterable[nn.Parameter], *, write: bool = False) -> Iterator[None]:
    """Inside, sharded parameters are complete; with ``write``, rank zero's values are kept. All ranks must enter."""
    cut = [parameter for parameter in parameters if is_cut(parameter)]
    if not cut:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(cut, modifier_rank=0 if write else None):
        yield


@contextmanager
def whole_in_turn(model: nn.Module) -> Iterator[None]:
    """Inside, every layer gathers its weights while it runs, so a model can be called before a strategy hooks it.

    Memory holds the parameters of one layer at a time beside the shards. No layer may run twice.
    """
    gathered: dict[nn.Module, Any] = {}

    def enter(layer: nn.Module, *_: Any) -> None:
        gathered[layer] = whole(layer.parameters(recurse=False))
        gathered[layer].__enter__()

    def leave(layer: nn.Module, *_: Any) -> None:
        gathered.pop(layer).__exit__(None, None, None)

    layers = [m for m in model.modules() if any(map(is_cut, m.parameters(recurse=False)))]
    handles = [
        handle for m in layers for handle in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        while gathered:  # layers that raised, the innermost first
            gathered.popitem()[1].__exit__(None, None, None)


@contextmanager
def made_whole(beside: nn.Module) -> Iterator[None]:
    """Inside, new layers of a sharded model are created unsharded on every rank; the strategy shards them later."""
    if not any(map(is_cut, beside.parameters())):
        yield
        return
    from deepspeed.runtime.zero.partition_parameters import restore_init_context, shutdown_init_context

    shutdown_init_context()
    try:
        yield
    finally:
        restore_init_context()


def as_many_on_every_rank(count: int, layer: nn.Module) -> int:
    """The largest ``count`` of all ranks if the layer is sharded, else ``count``.

    A sharded layer is gathered in every call, so all ranks must call it equally often: else they wait forever.
    """
    cut = [parameter for parameter in layer.parameters() if is_cut(parameter)]
    if not cut:
        return count
    most = torch.tensor(count, device=cut[0].device)
    torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
    return int(most)


def in_step(items: Iterable[Item], layer: nn.Module) -> Iterator[Item | None]:
    """The items, and then None while other ranks have more and this rank must call the sharded layer with them."""
    own = iter(items)
    item = next(own, None)
    while as_many_on_every_rank(int(item is not None), layer):
        yield item
        item = next(own, None)


def frozen_names(module: nn.Module) -> set[str]:
    """Names of weights that are not trained: those of the base model, which checkpoints leave out."""
    return {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}


def put_weights(module: nn.Module, weights: Mapping[str, Tensor], may_miss: Collection[str] = ()) -> None:
    """Copy these weights into the module, sharded or not. Raises ValueError for the weights of another model.

    One parameter at a time is gathered. Frozen weights and those in ``may_miss`` may be absent and stay as they are.
    """
    values = module.state_dict(keep_vars=True).items()
    own = {name: tuple(getattr(value, "ds_shape", value.shape)) for name, value in values}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    frozen = frozen_names(module) | set(may_miss)
    wrong = [f"no {name}" for name in own if name not in given and name not in frozen]
    wrong += [f"{name}, which the model does not have" for name in given if name not in own]
    wrong += [
        f"{name} of {given[name]}, not {own[name]}" for name in own.keys() & given.keys() if own[name] != given[name]
    ]
    if wrong:
        raise ValueError(
            f"The weights are not those of this {type(module).__name__}: they have {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. Give the checkpoint of a run with the same "
            "base_model and reward model."
        )
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if name in given:
            with whole([value] if isinstance(value, nn.Parameter) else [], write=True), torch.no_grad():
                value.copy_(weights[name])


def consolidated(folder: str | Path) -> dict[str, Tensor]:
    """The LightningModule's trained weights in a checkpoint of DeepSpeed, in float32; tied ones under all their names.

    Works for any ZeRO stage and number of processes, in one process without a process group. No object of a file is
    made except tensors and plain values, and a wrong byte is an error.
    """
    part = standing(Path(folder))  # raises for a folder that is not complete
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    # counts and bars; errors are raised
    with only_plain_values(part), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        weights = get_fp32_state_dict_from_zero_checkpoint(str(folder), exclude_frozen_parameters=True)
    return {name: value.detach() for name, value in weights.items()}  # below stage 3 they are parameters


@contextmanager
def only_plain_values(part: Path) -> Iterator[None]:
    """Inside, DeepSpeed reads the files of ``part`` without making objects other than tensors and plain values.

    Four classes of its own are allowed, which hold numbers. DeepSpeed asks torch for any object; torch's environment
    variable overrules that. The files' checksums are verified first.
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    own = [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = "1"
    try:
        with torch.serialization.safe_globals(own):
            for file in sorted(part.glob("*.pt")):
                read_checkpoint(file)
            yield
    finally:
        os.environ.pop(_FORCED)
        if before is not None:
            os.environ[_FORCED] = before


_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def content_of(checkpoint: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, a file or a folder; of a folder without weights and optimizer."""
    return state_of(checkpoint) if Path(checkpoint).is_dir() else read_checkpoint(checkpoint)


def state_of(folder: str | Path) -> dict[str, Any]:
    """The content of a checkpoint's folder without weights and optimizer: progress, callbacks, names and shapes."""
    part = standing(Path(folder))
    sharded = part / "zero_pp_rank_0_mp_rank_00_model_states.pt"  # ZeRO-3; below there is one file
    file = sharded if sharded.exists() else part / "mp_rank_00_model_states.pt"
    return read_checkpoint(file)


def processes_of(folder: str | Path) -> int:
    """The number of processes that saved the checkpoint, each with its shard of the optimizer."""
    return len(list(standing(Path(folder)).glob("*_optim_states.pt")))


def standing(folder: Path) -> Path:
    """The complete part of a checkpoint's folder; raises ValueError if there is none."""
    if not (folder / LATEST).is_file():
        raise ValueError(
            f"{folder} is not a checkpoint: it has no file {LATEST!r}, which names its complete part. Give a "
            "checkpoint file, or the folder checkpoints/last.ckpt of a run with ZeRO."
        )
    return folder / (folder / LATEST).read_text().strip()
