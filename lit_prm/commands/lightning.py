"""LightningCLI over LitPRM and RolloutDataModule; a run's folder resumes its run or refuses another one."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import set_dumper, set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

import callbacks  # noqa: F401  their bare class names become known to configs
from callbacks import RunRecord
from lit_prm.commands.option_errors import refuse_missing_gpu, with_class_names
from lit_prm.commands.precision import fast_precision
from lit_prm.commands.quiet import keep_quiet
from lit_prm.commands.stopping import exit_when_stopped
from lit_prm.reports.run_tables import best_of_n_table
from lit_prm.scoring.options import with_similar_option
from lit_prm.storage import run_folder
from lit_prm.storage.moved import arguments_of_today
from lit_prm.storage.run_files import is_finished, status
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.module import LitPRM
from lit_prm.training.predictions import write_predictions
from lit_prm.training.roll_call import RollCall
from lit_prm.training.zero import refuse_stock_deepspeed

# `${tuned.beta}` names the same option in every file; it is read after all files and overrides are merged.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
OmegaConf.register_resolver("fast_precision", fast_precision, replace=True)


def as_yaml(data: Any) -> str:
    """The text that jsonargparse writes, by libyaml if PyYAML has it: ten times faster, and each run dumps twice."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(data, Dumper=dumper, default_flow_style=False, allow_unicode=True, sort_keys=False))


set_dumper("yaml", as_yaml)


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
    """Parses the options of one ``command``, a method of the trainer; keeps two runs from writing into one folder."""

    finished = False  # True if the folder has all results of this command
    config_dump: Mapping[str, Any] = {}  # what `save_hyperparameters` would store; LitPRM does not call it

    def __init__(
        self,
        command: str,
        args: Sequence[str],
        model_class: type[LightningModule] = LitPRM,
        datamodule_class: type[LightningDataModule] = RolloutDataModule,
    ) -> None:
        self.command = command
        super().__init__(
            model_class,
            datamodule_class,
            args=arguments_of_today(args),
            auto_configure_optimizers=False,
            save_config_callback=RunRecord,
            save_config_kwargs={"overwrite": True},
            run=False,  # a parser with subcommands resolves and validates every option twice
            parser_kwargs={
                "prog": f"python -m lit_prm {command}",
                "parser_mode": "omegaconf+",  # resolves ${...} after all files and overrides are merged
                "exit_on_error": False,
                "allow_abbrev": False,  # abbreviations would accept misspelt options
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add = parser.add_argument
        add("--name", default="dev", help="name of the run: the experiment file's stem")
        add("--scale", default="none", help="stem of the scale file")
        add("--run_dir", default="runs/none/dev", help="folder that the run writes into")
        add("--threads", type=int | None, default=None, help="torch threads (default: all cores)")
        add("--base_model", type=str, help="folder or hub name of the initial policy and the reference")
        add("--tuned", type=Tuned, default=Tuned(), help="settings tuned at this scale, by objective")
        add("--after", type=str | None, default=None, help="experiment whose run must be finished first")
        given = self.subcommands()[self.command]  # model and data, which have options of their own
        self.method_options = parser.add_method_arguments(Trainer, self.command, skip=set(given))

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            known = list(parser._option_string_actions)
            message = with_similar_option(str(error), known, f"; python -m lit_prm {self.command} --help lists all")
            raise ArgumentError(None, with_class_names(message)) from error

    def before_instantiate_classes(self) -> None:
        """Prepare the run's folder; raise ValueError if another configuration made the run in there."""
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        if config.trainer.enable_progress_bar is False:  # Lightning refuses a progress bar callback then
            given = run_folder.listed(config.trainer.callbacks)
            config.trainer.callbacks = [c for c in given if not run_folder.is_progress(c)]
        if not config.trainer.fast_dev_run:
            folder, fits = Path(config.run_dir), self.command == "fit"
            refuse_missing_gpu(config.trainer.accelerator, config.scale)
            run_folder.refuse_other_folders(config)
            run_folder.refuse_mixing(folder, self._dumped, judging=not fits)
            self._before_fit(folder) if fits else self._before_evaluation(folder)

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """The trainer; raise ValueError for Lightning's own DeepSpeed strategy, which this project replaces."""
        trainer = super().instantiate_trainer(**options)
        refuse_stock_deepspeed(trainer.strategy)
        self.roll_call = RollCall(trainer)
        self.roll_call.start()
        return trainer

    @contextmanager
    def ending_as_one(self) -> Iterator[None]:
        """End the process with a line that names the rank whose end broke an operation inside, or as a signal asks."""
        try:
            with exit_when_stopped(self.trainer):
                yield
        except Exception as error:
            self.roll_call.explain(error)
            raise

    def _before_fit(self, folder: Path) -> None:
        config = self.config
        self.finished = is_finished(folder, config.get("data.test") or {})
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
        config = self.config
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
        return str(self.parser.dump(self.config, skip_link_targets=False, skip_validation=True))

    def execute(self) -> None:
        """Call the method of the command, with its options."""
        options = {name: self.config_init[name] for name in self.method_options}
        getattr(self, self.command)(model=self.model, datamodule=self.datamodule, **options)

    def fit(self, **options: Any) -> None:
        """Train or resume the run; a finished run stays as it is."""
        if self.finished:
            _print(f"{self.config.run_dir} is finished; remove the folder to run the experiment again")
        else:
            with self.ending_as_one():
                self.trainer.fit(**options)

    def validate(self, **options: Any) -> None:
        """Evaluate the validation sets and print their tables."""
        self._evaluate(self.trainer.validate, options)

    def test(self, **options: Any) -> None:
        """Evaluate the test sets and print their tables."""
        self._evaluate(self.trainer.test, options)

    def predict(self, **options: Any) -> None:
        """Score the test sets and write one file for each; labels are not read."""
        with self.ending_as_one():
            outputs = self.trainer.predict(**options) or []
        folder = Path(self.config.run_dir) / "predictions"
        for file in write_predictions(folder, self.datamodule.candidates("test"), outputs):
            _print(f"predictions: {file}")

    def _evaluate(self, evaluate: Callable[..., Any], options: dict[str, Any]) -> None:
        with self.ending_as_one():
            evaluate(**(options | {"verbose": False}))
        if self.trainer.is_global_zero:
            best_of_n_table({name: float(value) for name, value in self.trainer.callback_metrics.items()})


def run(command: str, args: Sequence[str]) -> LitCLI:
    """Parse and run ``fit``, ``validate``, ``test`` or ``predict``; the returned object has trainer, model and data."""
    keep_quiet()
    cli = LitCLI(command, args)
    cli.execute()
    return cli


class _Parsed(Exception):
    """Carries the resolved configuration out of the constructor of LightningCLI."""


class _ParseOnly(LitCLI):
    def before_instantiate_classes(self) -> None:
        raise _Parsed(self._dumped())


def resolved_config(options: Sequence[str]) -> str:
    """The configuration that `fit` with these options would write as ``config.yaml``; nothing is built or written."""
    keep_quiet()
    try:
        _ParseOnly("fit", options)
    except _Parsed as parsed:
        return str(parsed)
    raise AssertionError("LightningCLI called no before_instantiate_classes")


_print = rank_zero_only(print)
