"""LightningCLI over LitPRM and RolloutDataModule, with run folders that resume or refuse."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import isabstract
from pathlib import Path
from typing import Any

import torch
from jsonargparse import set_parsing_settings
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

import callbacks  # noqa: F401  their bare class names become known to configs
from callbacks import RunRecord, SafeStop
from callbacks.safe_stop import Stopped
from lit_prm.data import RolloutDataModule
from lit_prm.labeling import Labeler
from lit_prm.losses import Loss
from lit_prm.losses.pairs import Pairs
from lit_prm.module import LitPRM
from lit_prm.predictions import write_predictions
from lit_prm.reference import Reference
from lit_prm.regime import Regime
from lit_prm.reward_model import RewardModel
from lit_prm.run_folder import (
    differences,
    hold,
    is_finished,
    is_progress,
    last_checkpoint,
    listed,
    refuse_mixing,
    refuse_other_folders,
    status,
)
from lit_prm.steps import StepRule
from lit_prm.tables import best_of_n_table
from lit_prm.zero import refuse_stock_deepspeed

COMMANDS = ("fit", "validate", "test", "predict")

# Options that take a class by its bare name, and what they take.
_NAMED: dict[str, type] = {
    "loss": Loss, "pairs": Pairs, "reward_model": RewardModel, "reference": Reference, "steps": StepRule,
    "regimes": Regime, "labeler": Labeler,
}  # fmt: skip


def fast_precision(accelerator: str = "auto") -> str:
    """The trainer's precision: bf16-mixed where the device computes bfloat16 at least as fast, else 32-true."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = accelerator in ("auto", "cpu") and _cpu_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


# `${model.beta}` means the same in every file, after all files and overrides are merged.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
OmegaConf.register_resolver("fast_precision", fast_precision, replace=True)


@dataclass
class Tuned:
    """Settings that hardware and model decide, for the objectives that experiments choose: the paper's by default."""

    lr: float = 5e-7  # of an implicit reward
    beta: float = 0.05
    head_lr: float = 5e-7  # of a value head with its model
    prefix_beta: float = 10.0  # of cross-entropy at every prefix, whose values are means per token
    prefix_margin: float = 5.0
    completion_tokens: int = 1024  # at most, of a prefix's completion for Math-Shepherd


class LitCLI(LightningCLI):
    """Adds the facts that several parts share, and keeps runs in folders that never mix."""

    finished = False  # the folder holds all that this command would find

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", default="dev", help="what this run is called: an experiment file's stem")
        parser.add_argument("--scale", default="none", help="the scale file's stem")
        parser.add_argument("--run_dir", default="runs/none/dev", help="folder of everything this run writes")
        parser.add_argument("--threads", type=int | None, default=None, help="torch threads; by default all cores")
        parser.add_argument("--base_model", type=str, help="folder or hub name: policy at start, and reference")
        parser.add_argument("--tuned", type=Tuned, default=Tuned(), help="what was tuned at this scale, by objective")
        parser.add_argument("--after", type=str | None, default=None, help="experiment that must have run before this")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            told = _with_known_names(_with_nearest_option(str(error), self._options(args)))
            raise ArgumentError(None, told) from error

    def _options(self, args: Sequence[str]) -> list[str]:
        """Of the command that is asked for."""
        return [option for word in args[:1] for option in self._subcommand_parsers[word]._option_string_actions]

    def before_instantiate_classes(self) -> None:
        """Work on the run of this folder, or refuse when it was made by another configuration."""
        config = self.config[self.subcommand]
        if config.threads:
            torch.set_num_threads(config.threads)
        if config.trainer.enable_progress_bar is False:  # Lightning refuses a bar beside it
            config.trainer.callbacks = [c for c in listed(config.trainer.callbacks) if not is_progress(c)]
        if not config.trainer.fast_dev_run:
            folder, fits = Path(config.run_dir), self.subcommand == "fit"
            refuse_missing_gpu(config.trainer.accelerator, config.scale)
            refuse_other_folders(config)
            refuse_mixing(folder, self._dumped(), judging=not fits)
            self._before_fitting(folder) if fits else self._before_judging(folder)

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """The trainer, with a strategy whose updates and checkpoints are ours."""
        trainer = super().instantiate_trainer(**options)
        refuse_stock_deepspeed(trainer.strategy)
        return trainer

    def _before_fitting(self, folder: Path) -> None:
        config = self.config[self.subcommand]
        self.finished = is_finished(folder, config.get("data.test") or {})
        if self.finished:
            return
        hold(folder)
        if config.ckpt_path is None and (last := last_checkpoint(folder)):
            _say(f"continuing {folder} from its last checkpoint")
            config.ckpt_path = last
        elif not (folder / "config.yaml").exists() or differences(folder, self._dumped()):
            # a first or corrected start, whose options MLflow cannot hold in a run that was judged or failed
            for record in ("mlflow-run-id", "mlflow-missed.jsonl"):
                rank_zero_only((folder / record).unlink)(missing_ok=True)

    def _before_judging(self, folder: Path) -> None:
        """The weights to judge are those of this folder's run, unless a checkpoint is named."""
        config = self.config[self.subcommand]
        config.ckpt_path = config.ckpt_path or last_checkpoint(folder)
        if config.trainer.max_epochs == 0:  # the weights it starts from are the run's
            return
        if config.ckpt_path is None and status(folder) == "FINISHED":
            raise ValueError(
                f"no checkpoint in {folder}: judging the untrained policy would replace what its trained run found; "
                f"give --ckpt_path, or --run_dir {folder}-other to judge the untrained policy"
            )
        if config.ckpt_path is None:
            _say(f"no checkpoint in {folder}: judging the untrained policy")

    def _dumped(self) -> str:
        return str(self.parser_of_subcommand().dump(self.config[self.subcommand], skip_link_targets=False))

    def parser_of_subcommand(self) -> LightningArgumentParser:
        """The parser that read this command's options."""
        return self._subcommand_parsers[str(self.subcommand)]

    def fit(self, **options: Any) -> None:
        """Train, or go on; a finished run is left as it is."""
        if self.finished:
            _say(f"{self.config.fit.run_dir} is finished; remove the folder to run it again")
        else:
            with told_when_stopped(self.trainer):
                self.trainer.fit(**options)

    def validate(self, **options: Any) -> None:
        """Judge the validation sets and print their tables."""
        with told_when_stopped(self.trainer):
            found = self.trainer.validate(**(options | {"verbose": False}))
        self._show(found)

    def test(self, **options: Any) -> None:
        """Judge the test sets and print their tables."""
        with told_when_stopped(self.trainer):
            found = self.trainer.test(**(options | {"verbose": False}))
        self._show(found)

    def predict(self, **options: Any) -> None:
        """Score the test sets and leave one file for each; correctness is not looked at."""
        with told_when_stopped(self.trainer):
            outputs = self.trainer.predict(**options) or []
        folder = Path(self.config.predict.run_dir) / "predictions"
        for file in write_predictions(folder, self.datamodule.candidates("test"), outputs):
            _say(f"predictions: {file}")

    def _show(self, per_loader: Sequence[Mapping[str, float]]) -> None:
        if self.trainer.is_global_zero:
            best_of_n_table({name: value for metrics in per_loader for name, value in metrics.items()})


def run(args: Sequence[str]) -> LitCLI:
    """Parse and run one LightningCLI command; the returned object holds trainer, model and data."""
    return _made(LitCLI, args)


def _made(kind: type[LitCLI], args: Sequence[str]) -> LitCLI:
    _keep_quiet()
    strict = {"exit_on_error": False, "allow_abbrev": False}  # an abbreviation would accept a misspelt option
    asked = [command for command in COMMANDS if command in args[:1]] or COMMANDS  # a parser takes a tenth of a second
    of = {command: LightningCLI.subcommands()[command] for command in asked}
    kind = type(kind.__name__, (kind,), {"subcommands": staticmethod(lambda: of)})
    return kind(
        LitPRM,
        RolloutDataModule,
        args=list(args),
        auto_configure_optimizers=False,
        save_config_callback=RunRecord,
        save_config_kwargs={"overwrite": True},
        # omegaconf+ resolves after files and overrides
        parser_kwargs={"parser_mode": "omegaconf+", **strict, **{command: dict(strict) for command in asked}},
    )


class _Parsed(Exception):
    """Carries the resolved configuration out of the constructor."""


class _ParsedOnly(LitCLI):
    def before_instantiate_classes(self) -> None:
        raise _Parsed(self._dumped())


def resolved_config(options: Sequence[str]) -> str:
    """The configuration that `fit` with these options would keep as ``config.yaml``; nothing is built or written."""
    try:
        _made(_ParsedOnly, ["fit", *options])
    except _Parsed as parsed:
        return str(parsed)
    raise AssertionError("a command line interface was built without looking at its configuration")


@contextmanager
def told_when_stopped(trainer: Trainer) -> Iterator[None]:
    """A signal that stopped the trainer inside ends the process with its exit status and a word on how to go on.

    Rank zero leaves the status in the file LIT_PRM_STOPPED, if that is set: a launcher of many processes tells but one.
    """
    safe = next((c for c in trainer.checkpoint_callbacks if isinstance(c, SafeStop)), SafeStop())
    try:
        with safe.listening(trainer):
            yield
    except Stopped as ended:
        _say("stopped; the same command goes on", file=sys.stderr)
        if (mark := os.environ.get("LIT_PRM_STOPPED")) and trainer.is_global_zero:
            Path(mark).write_text(f"{ended.code}\n")
        raise SystemExit(ended.code) from None


def refuse_missing_gpu(accelerator: str, scale: str) -> None:
    """Raise, unless torch sees the GPU that the trainer is to use."""
    seen = torch.cuda.is_available() or (accelerator == "gpu" and torch.mps.is_available())
    if accelerator in ("gpu", "cuda") and not seen:
        raise ValueError(
            f"trainer.accelerator is {accelerator} (scale {scale}), and torch {torch.__version__} sees no GPU here; "
            "install a build of torch for CUDA, or take a scale for CPUs (tiny, smol); `plan` needs no GPU"
        )


def _with_nearest_option(message: str, options: Sequence[str]) -> str:
    """The parser's message, with an option of a similar name where it did not know one."""
    unknown = re.search(r"nrecognized arguments: (--[\w.+-]+)", message)
    if unknown is None:
        return message
    near = get_close_matches(unknown[1], options, 1)
    hint = f"did you mean {near[0]}?" if near else "python -m lit_prm fit --help lists all"
    return f"{message}; {hint}"


def _with_known_names(message: str) -> str:
    """The parser's message, with the names it would have taken where it did not know a class."""
    key = re.search(r'Parser key "(?:\w+\.)*(\w+)"(?:(?!Parser key).)*import path', message, re.DOTALL)
    if key is None or key[1] not in _NAMED:
        return message
    known = ", ".join(sorted(kind.__name__ for kind in _subclasses(_NAMED[key[1]]) if not isabstract(kind)))
    return f"{message}\n  known: {known}; or the dotted path of your own class"


def _subclasses(kind: type) -> set[type]:
    direct: list[type] = kind.__subclasses__()
    return {found for below in direct for found in (below, *_subclasses(below))}


def _keep_quiet() -> None:
    """Nothing phones home, and nothing is said that a user cannot act on."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked after tokenizers were used
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")  # else it warns
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of how Lightning calls it
    for chatty in ("lightning.pytorch", "lightning.fabric"):  # devices, seeds, advertisements
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # our own front end passes them
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec", FutureWarning)  # Lightning's own use
    # DeepSpeed's use of torch 2.13, at every gather of every layer
    warnings.filterwarnings("ignore", ".*(all_gather_into_tensor|reduce_scatter_tensor)` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable")  # Updates goes on where it was
    warnings.filterwarnings("ignore", ".*does not have many workers")  # collating costs less than a process


_say = rank_zero_only(print)
