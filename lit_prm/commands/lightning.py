"""LightningCLI over LitPRM and RolloutDataModule; a run's folder resumes its run or refuses another one."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from callbacks.stop_signals import Stopped
from lit_prm.commands.option_errors import refuse_missing_gpu, with_class_names
from lit_prm.commands.precision import fast_precision
from lit_prm.commands.quiet import keep_quiet
from lit_prm.reports.run_tables import best_of_n_table
from lit_prm.scoring.options import with_similar_option
from lit_prm.storage import run_folder
from lit_prm.storage.moved import arguments_of_today
from lit_prm.storage.run_files import status
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.module import LitPRM
from lit_prm.training.predictions import write_predictions
from lit_prm.training.zero import refuse_stock_deepspeed

# `${tuned.beta}` names the same option in every file; it is read after all files and overrides are merged.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
OmegaConf.register_resolver("fast_precision", fast_precision, replace=True)


@dataclass
class Tuned:
    """Settings that depend on hardware and model, named `${tuned.lr}` in configs; the defaults are the paper's."""

    lr: float = 5e-7  # learning rate of an implicit reward
    beta: float = 0.05
    head_lr: float = 5e-7  # learning rate of a value head and the model below it
    prefix_beta: float = 10.0  # beta of cross-entropy at every prefix, whose values are means per token
    prefix_margin: float = 5.0
    completion_tokens: int = 1024  # longest completion of a prefix for Math-Shepherd


class LitCLI(LightningCLI):
    """Adds the options that several parts share, and keeps two runs from writing into one folder."""

    finished = False  # True if the folder has all results of this command
    config_dump: Mapping[str, Any] = {}  # what `save_hyperparameters` would store; LitPRM does not call it

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add = parser.add_argument
        add("--name", default="dev", help="name of the run: the experiment file's stem")
        add("--scale", default="none", help="stem of the scale file")
        add("--run_dir", default="runs/none/dev", help="folder that the run writes into")
        add("--threads", type=int | None, default=None, help="torch threads (default: all cores)")
        add("--base_model", type=str, help="folder or hub name of the initial policy and the reference")
        add("--tuned", type=Tuned, default=Tuned(), help="settings tuned at this scale, by objective")
        add("--after", type=str | None, default=None, help="experiment whose run must be finished first")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            known = [option for word in args[:1] for option in self._subcommand_parsers[word]._option_string_actions]
            message = with_similar_option(str(error), known, "; python -m lit_prm fit --help lists all")
            raise ArgumentError(None, with_class_names(message)) from error

    def before_instantiate_classes(self) -> None:
        """Prepare the run's folder; raise ValueError if another configuration made the run in there."""
        config = self.config[self.subcommand]
        if config.threads:
            torch.set_num_threads(config.threads)
        if config.trainer.enable_progress_bar is False:  # Lightning refuses a progress bar callback then
            given = run_folder.listed(config.trainer.callbacks)
            config.trainer.callbacks = [c for c in given if not run_folder.is_progress(c)]
        if not config.trainer.fast_dev_run:
            folder, fits = Path(config.run_dir), self.subcommand == "fit"
            refuse_missing_gpu(config.trainer.accelerator, config.scale)
            run_folder.refuse_other_folders(config)
            run_folder.refuse_mixing(folder, self._dumped, judging=not fits)
            self._before_fit(folder) if fits else self._before_evaluation(folder)

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """The trainer; raise ValueError for Lightning's own DeepSpeed strategy, which this project replaces."""
        trainer = super().instantiate_trainer(**options)
        refuse_stock_deepspeed(trainer.strategy)
        return trainer

    def _before_fit(self, folder: Path) -> None:
        config = self.config[self.subcommand]
        self.finished = run_folder.is_finished(folder, config.get("data.test") or {})
        if self.finished:
            return
        run_folder.hold(folder)
        if config.ckpt_path is None and (last := run_folder.last_checkpoint(folder)):
            _print(f"continuing {folder} from its last checkpoint")
            config.ckpt_path = last
        elif not (folder / "config.yaml").exists() or run_folder.differences(folder, self._dumped()):
            # a first start, or one with corrected options: a run in MLflow cannot change its options
            for record in ("mlflow-run-id", "mlflow-missed.jsonl"):
                rank_zero_only((folder / record).unlink)(missing_ok=True)

    def _before_evaluation(self, folder: Path) -> None:
        """Choose the weights: of ``--ckpt_path``, else of the folder's last checkpoint, else the untrained ones."""
        config = self.config[self.subcommand]
        config.ckpt_path = config.ckpt_path or run_folder.last_checkpoint(folder)
        if config.trainer.max_epochs == 0:  # a run without training: its weights are those it starts from
            return
        if config.ckpt_path is None and status(folder) == "FINISHED":
            raise ValueError(
                f"{folder} has no checkpoint, but its run was trained. Evaluating the untrained policy there would "
                f"replace the run's results. Give --ckpt_path, or --run_dir {folder}-other for the untrained policy"
            )
        if config.ckpt_path is None:
            _print(f"no checkpoint in {folder}: evaluating the untrained policy")

    def _dumped(self) -> str:
        """The configuration as YAML, as a run's folder stores it."""
        parser = self._subcommand_parsers[str(self.subcommand)]
        return str(parser.dump(self.config[self.subcommand], skip_link_targets=False, skip_validation=True))

    def fit(self, **options: Any) -> None:
        """Train or resume the run; a finished run stays as it is."""
        if self.finished:
            _print(f"{self.config.fit.run_dir} is finished; remove the folder to run the experiment again")
        else:
            with exit_when_stopped(self.trainer):
                self.trainer.fit(**options)

    def validate(self, **options: Any) -> None:
        """Evaluate the validation sets and print their tables."""
        self._evaluate(self.trainer.validate, options)

    def test(self, **options: Any) -> None:
        """Evaluate the test sets and print their tables."""
        self._evaluate(self.trainer.test, options)

    def predict(self, **options: Any) -> None:
        """Score the test sets and write one file for each; labels are not read."""
        with exit_when_stopped(self.trainer):
            outputs = self.trainer.predict(**options) or []
        folder = Path(self.config.predict.run_dir) / "predictions"
        for file in write_predictions(folder, self.datamodule.candidates("test"), outputs):
            _print(f"predictions: {file}")

    def _evaluate(self, evaluate: Callable[..., Any], options: dict[str, Any]) -> None:
        with exit_when_stopped(self.trainer):
            evaluate(**(options | {"verbose": False}))
        if self.trainer.is_global_zero:
            best_of_n_table({name: float(value) for name, value in self.trainer.callback_metrics.items()})


def run(args: Sequence[str], cli: type[LitCLI] = LitCLI) -> LitCLI:
    """Parse and run one LightningCLI command; the returned object holds trainer, model and data."""
    keep_quiet()
    strict = {"exit_on_error": False, "allow_abbrev": False}  # abbreviations would accept misspelt options
    methods = LightningCLI.subcommands()
    if args and args[0] in methods:
        methods = {args[0]: methods[args[0]]}  # each parser takes a tenth of a second
    limited: type[LitCLI] = type("LitCLI", (cli,), {"subcommands": staticmethod(lambda: methods)})
    return limited(
        LitPRM,
        RolloutDataModule,
        args=arguments_of_today(args),
        auto_configure_optimizers=False,
        save_config_callback=RunRecord,
        save_config_kwargs={"overwrite": True},
        # omegaconf+ resolves ${...} after all files and overrides are merged
        parser_kwargs={"parser_mode": "omegaconf+", **strict, **{command: dict(strict) for command in methods}},
    )


class _Parsed(Exception):
    """Carries the resolved configuration out of the constructor of LightningCLI."""


class _ParseOnly(LitCLI):
    def before_instantiate_classes(self) -> None:
        raise _Parsed(self._dumped())


def resolved_config(options: Sequence[str]) -> str:
    """The configuration that `fit` with these options would write as ``config.yaml``; nothing is built or written."""
    try:
        run(["fit", *options], _ParseOnly)
    except _Parsed as parsed:
        return str(parsed)
    raise AssertionError("LightningCLI called no before_instantiate_classes")


@contextmanager
def exit_when_stopped(trainer: Trainer) -> Iterator[None]:
    """End the process with the signal's exit status if a signal stops the trainer inside; say how to resume.

    Rank zero also writes the status into the file that the environment variable LIT_PRM_STOPPED names: the exit status
    of a launcher (torchrun) is its own.
    """
    safe = next((c for c in trainer.checkpoint_callbacks if isinstance(c, SafeStop)), SafeStop())
    try:
        with safe.listening(trainer):
            yield
    except Stopped as stopped:
        _print("stopped; the same command resumes the run", file=sys.stderr)
        if (file := os.environ.get("LIT_PRM_STOPPED")) and trainer.is_global_zero:
            Path(file).write_text(f"{stopped.code}\n")
        raise SystemExit(stopped.code) from None


_print = rank_zero_only(print)
