"""ZeRO: Lightning's DeepSpeed strategy with small checkpoints that any number of processes can read.

On CPU (gloo; for tests, and to try a launch file) three methods replace those of Lightning that need CUDA:
``setup_environment``, ``setup_distributed`` and ``root_device``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_prm.models.zero_weights import (
    LATEST,
    consolidated,
    only_plain_values,
    processes_of,
    put_weights,
    standing,
    state_of,
)
from lit_prm.storage.atomic import reach_the_disk, write_text
from lit_prm.storage.checkpoint_files import read_checkpoint

_PARTS = ("checkpoint", "checkpoint-2")  # of a checkpoint's folder: one is complete while the other is written


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """In the block, casts change the dtype of weights but not of buffers; both may move to another device.

    Lightning and DeepSpeed cast both. Rotary frequencies in bfloat16 would turn distant positions by whole radians.
    """
    kept = [(part, name, buffer) for part in module.modules() for name, buffer in part._buffers.items()]
    yield
    for part, name, buffer in kept:
        now = part._buffers[name]
        part._buffers[name] = buffer if buffer is None or now is None else buffer.to(now.device)


class ZeRO(DeepSpeedStrategy):
    """Shards the optimizer (``stage`` 1), also gradients (2), also weights (3) over all processes.

    Under stage 3 a model that ``configure_model`` loads is sharded while it is read, parameter by parameter. A model
    that is loaded later, such as a live reference, is not sharded.

    A checkpoint is a folder that holds the trained weights alone. It changes atomically: the new state is written
    beside the current one, and the file ``latest`` is replaced when all ranks have written. All ranks must see the
    same file system.
    """

    def __init__(
        self,
        stage: int = 2,
        exclude_frozen_parameters: bool = True,
        param_persistence_threshold: int = 100_000,  # stage 3 keeps smaller parameters whole on every rank
        logging_batch_size_per_gpu: int = 1,  # only for a printed speed; our batch sizes vary
        **options: Any,
    ) -> None:
        if stage not in (1, 2, 3):
            raise ValueError(
                f"stage {stage} is not 1, 2 or 3, the stages of ZeRO. To shard nothing, use trainer.strategy ddp."
            )
        super().__init__(
            stage=stage, exclude_frozen_parameters=exclude_frozen_parameters,
            logging_batch_size_per_gpu=logging_batch_size_per_gpu, **options,
        )  # fmt: skip
        self.gradient_norm: float | None = None  # of the last update, over all processes, before clipping
        if stage == 3:
            self._zero_options["stage3_param_persistence_threshold"] = param_persistence_threshold

    @property
    def _on_cpu(self) -> bool:
        return isinstance(self.accelerator, CPUAccelerator)

    def setup_environment(self) -> None:
        if not self._on_cpu:
            super().setup_environment()
            return
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # an all-reduce for inference that needs g++
        DDPStrategy.setup_environment(self)  # skips Lightning's check for CUDA

    def setup_distributed(self) -> None:
        if not self._on_cpu:
            super().setup_distributed()
            return
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0) if self._on_cpu else super().root_device  # DeepSpeed reads the device's index

    @contextmanager
    def model_sharded_context(self) -> Iterator[None]:
        """In the block, models are created and loaded in shards; transformers sees the configuration only here."""
        if not self.zero_stage_3:
            yield
            return
        from transformers.integrations.deepspeed import HfDeepSpeedConfig, prevent_arange_dtype_change

        with prevent_arange_dtype_change(), super().model_sharded_context():  # positions of rotary frequencies
            alive = HfDeepSpeedConfig(self.config)
            yield
            del alive

    def setup(self, trainer: Trainer) -> None:
        assert self.lightning_module is not None
        with buffers_kept(self.lightning_module):  # DeepSpeed casts as Lightning does
            super().setup(trainer)

    def backward(self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **options: Any) -> Tensor:
        """Lightning has divided the loss by the number of micro-batches; keep DeepSpeed from dividing it again."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **options)

    def optimizer_step(self, *args: Any, **options: Any) -> Any:
        """Run one micro-batch, and the update after the last micro-batch.

        DeepSpeed skips an update whose gradient is NaN or infinite; ``gradient_norm`` shows it.
        """
        result = super().optimizer_step(*args, **options)
        norm = self.deepspeed_engine.get_global_grad_norm()
        self.gradient_norm = None if norm is None else float(norm)
        return result

    @property
    def _zero_options(self) -> dict[str, Any]:
        assert isinstance(self.config, dict)
        options: dict[str, Any] = self.config["zero_optimization"]
        return options

    def _format_config(self) -> None:
        super()._format_config()
        assert isinstance(self.config, dict)
        if "bf16" in self.config:  # without it DeepSpeed makes updates with NaN
            self.config["bf16"].setdefault("check_grad_overflow", True)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        target = Path(self.broadcast(filepath))
        folder, part = self.broadcast(_part_to_write(target) if self.is_global_zero else (target, ""))
        state = {name: value for name, value in checkpoint.items() if name not in ("state_dict", "optimizer_states")}
        self.deepspeed_engine.save_checkpoint(  # ends when every rank has written
            str(folder), tag=part, client_state=state, save_latest=False,
            exclude_frozen_parameters=self.exclude_frozen_parameters,
        )  # fmt: skip
        if self.is_global_zero:
            _make_current(folder, part, target)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """To train: the whole state, if saved by as many processes at the same stage. Otherwise: the weights alone."""
        module, path = self.lightning_module, Path(checkpoint_path)
        assert module is not None
        if module.trainer.state.fn != TrainerFn.FITTING:
            return self._load_weights(module, path)
        self._refuse_other_sharding(path)
        _refuse_other_weights(module, path)
        with only_plain_values(standing(path)):
            _, state = self.deepspeed_engine.load_checkpoint(
                str(path), load_lr_scheduler_states=False, load_module_strict=False
            )
        return dict(state)

    def _load_weights(self, module: LightningModule, path: Path) -> dict[str, Any]:
        if path.is_dir():
            put_weights(module, consolidated(path))
            return state_of(path)
        checkpoint = read_checkpoint(path)
        put_weights(module, checkpoint["state_dict"])
        return checkpoint

    def _refuse_other_sharding(self, path: Path) -> None:
        """Raise unless the checkpoint was saved by as many processes at the same stage; DeepSpeed needs that."""
        current = f"ZeRO stage {self._zero_options['stage']} on {self.world_size} processes"
        at_save = "no ZeRO, in one file"
        if path.is_dir():
            saved = state_of(path)["ds_config"]["zero_optimization"]["stage"]
            at_save = f"ZeRO stage {saved} on {processes_of(path)} processes"
        if at_save != current:
            raise ValueError(
                f"{path} was saved with {at_save}, this is {current}, and DeepSpeed cannot reshard an optimizer. "
                f"Resume as it was saved, or start another run from its weights: --model.start {path} --run_dir ..."
            )


def refuse_stock_deepspeed(strategy: Strategy) -> None:
    """Raise ValueError for a DeepSpeed strategy that is not ``ZeRO``."""
    if isinstance(strategy, DeepSpeedStrategy) and not isinstance(strategy, ZeRO):
        raise ValueError(
            f"trainer.strategy is {type(strategy).__name__}, Lightning's own. It divides accumulated gradients twice, "
            "and its checkpoints differ from ours. Use --trainer.strategy lit_prm.training.zero.ZeRO "
            "--trainer.strategy.init_args.stage N, with N 1, 2 or 3."
        )


def _part_to_write(target: Path) -> tuple[Path, str]:
    """An empty folder to write to, which does not hold the current state, and the name of its part."""
    folder = target if target.is_dir() else target.with_name(f".{target.name}.partial")
    part = next(name for name in _PARTS if name != _current_part(folder))
    shutil.rmtree(folder / part, ignore_errors=True)  # left by a killed save, perhaps of other processes
    return folder, part


def _make_current(folder: Path, part: str, target: Path) -> None:
    """Make the written part the checkpoint, atomically, also at a power cut."""
    for file in (folder / part).iterdir():
        reach_the_disk(file)
    before = _current_part(folder)
    write_text(folder / LATEST, part)
    if folder != target:
        os.replace(folder, target)
    elif before is not None:
        shutil.rmtree(folder / before, ignore_errors=True)


def _current_part(folder: Path) -> str | None:
    latest = folder / LATEST
    return latest.read_text().strip() if latest.is_file() else None


def _refuse_other_weights(module: nn.Module, path: Path) -> None:
    saved: dict[str, Any] = {}
    for group in state_of(path)["param_shapes"]:
        saved |= {name: tuple(shape) for name, shape in group.items()}
    own = {n: tuple(getattr(p, "ds_shape", p.shape)) for n, p in module.named_parameters() if p.requires_grad}
    if saved != own:
        different = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
        raise ValueError(
            f"the weights of {path} are not those of this model: {', '.join(different[:3])}; give the --ckpt_path of a "
            "run with the same base_model and reward model"
        )
