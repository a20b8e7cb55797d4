"""LightningCLI over LitPRM and RolloutDataModule, with run folders that resume or refuse."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

import callbacks  # noqa: F401  their bare class names become known to configs
from callbacks import RunRecord
from lit_prm.data import RolloutDataModule
from lit_prm.losses import Loss
from lit_prm.module import LitPRM
from lit_prm.predictions import write_predictions
from lit_prm.reference import Reference
from lit_prm.reward_model import RewardModel
from lit_prm.steps import StepRule
from lit_prm.tables import best_of_n_table
from lit_prm.tracking import flatten

COMMANDS = ("fit", "validate", "test", "predict")

# What may differ between a run and its continuation.
_FREE = {"ckpt_path", "config", "threads", "trainer.enable_progress_bar", "trainer.enable_model_summary"}

# Options that take a class by its bare name, and what they take.
_NAMED: dict[str, type] = {"loss": Loss, "reward_model": RewardModel, "reference": Reference, "steps": StepRule}


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


class LitCLI(LightningCLI):
    """Adds the facts that several parts share, and keeps runs in folders that never mix."""

    finished = False  # the folder holds all that this command would find

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", default="dev", help="what this run is called: an experiment file's stem")
        parser.add_argument("--scale", default="none", help="the scale file's stem")
        parser.add_argument("--run_dir", default="runs/none/dev", help="folder of everything this run writes")
        parser.add_argument("--threads", type=int | None, default=None, help="torch threads; by default all cores")
        parser.add_argument("--base_model", type=str, help="folder or hub name: policy at start, and reference")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            raise ArgumentError(None, _with_known_names(str(error))) from error

    def before_instantiate_classes(self) -> None:
        """Continue the run of this folder, or refuse when it was made by another configuration."""
        config = self.config[self.subcommand]
        if config.threads:
            torch.set_num_threads(config.threads)
        if self.subcommand != "fit" or config.trainer.fast_dev_run:
            return
        folder = Path(config.run_dir)
        refuse_mixing(folder, self.parser_of_subcommand().dump(config, skip_link_targets=False))
        self.finished = is_finished(folder, config.get("data.test") or {})
        last = folder / "checkpoints" / "last.ckpt"
        if not self.finished and config.ckpt_path is None and last.exists():
            _say(f"continuing {folder} from its last checkpoint")
            config.ckpt_path = str(last)

    def parser_of_subcommand(self) -> LightningArgumentParser:
        """The parser that read this command's options."""
        return self._subcommand_parsers[str(self.subcommand)]

    def fit(self, **options: Any) -> None:
        """Train, or go on; a finished run is left as it is."""
        if self.finished:
            _say(f"{self.config.fit.run_dir} is finished; remove the folder to run it again")
        else:
            self.trainer.fit(**options)

    def validate(self, **options: Any) -> None:
        """Judge the validation sets and print their tables."""
        self._show(self.trainer.validate(**(options | {"verbose": False})))

    def test(self, **options: Any) -> None:
        """Judge the test sets and print their tables."""
        self._show(self.trainer.test(**(options | {"verbose": False})))

    def predict(self, **options: Any) -> None:
        """Score the test sets and leave one file for each; correctness is not looked at."""
        outputs = self.trainer.predict(**options) or []
        folder = Path(self.config.predict.run_dir) / "predictions"
        for file in write_predictions(folder, self.datamodule.candidates("test"), outputs):
            _say(f"predictions: {file}")

    def _show(self, per_loader: Sequence[Mapping[str, float]]) -> None:
        if self.trainer.is_global_zero:
            best_of_n_table({name: value for metrics in per_loader for name, value in metrics.items()})


def run(args: Sequence[str]) -> LitCLI:
    """Parse and run one LightningCLI command; the returned object holds trainer, model and data."""
    _keep_quiet()
    strict = {"exit_on_error": False, "allow_abbrev": False}  # an abbreviation would accept a misspelt option
    return LitCLI(
        LitPRM,
        RolloutDataModule,
        args=list(args),
        auto_configure_optimizers=False,
        save_config_callback=RunRecord,
        save_config_kwargs={"overwrite": True},
        # omegaconf+ resolves after files and overrides
        parser_kwargs={"parser_mode": "omegaconf+", **strict, **{command: dict(strict) for command in COMMANDS}},
    )


def is_finished(folder: Path, test_sets: Iterable[str]) -> bool:
    """Whether the run of ``folder`` was trained to its end and tested on every set."""
    file = folder / "summary.json"
    summary = json.loads(file.read_text()) if file.exists() else {}
    tested = all(f"bon/{name}/acc@1" in summary.get("metrics", {}) for name in test_sets)
    return summary.get("status") == "FINISHED" and tested


def refuse_mixing(folder: Path, config: str) -> None:
    """Raise when ``folder`` holds a run of another configuration, naming every difference."""
    stored = folder / "config.yaml"
    if not stored.exists():
        return
    old, new = flatten(yaml.safe_load(stored.read_text())), flatten(yaml.safe_load(config))
    different = [k for k in sorted(old.keys() | new.keys()) if k not in _FREE and old.get(k) != new.get(k)]
    if different:
        shown = "\n".join(f"  {k}: {old.get(k)!r} -> {new.get(k)!r}" for k in different[:10])
        raise ValueError(
            f"{folder} holds a run with another configuration:\n{shown}\n"
            f"remove the folder to start again, or keep both: --run_dir {folder}-other"
        )


def _with_known_names(message: str) -> str:
    """The parser's message, with the names it would have taken where it did not know a class."""
    key = re.search(r'Parser key "(?:\w+\.)*(\w+)"(?:(?!Parser key).)*import path', message, re.DOTALL)
    if key is None or key[1] not in _NAMED:
        return message
    known = ", ".join(sorted(kind.__name__ for kind in _subclasses(_NAMED[key[1]])))
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
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable")  # Updates goes on where it was
    warnings.filterwarnings("ignore", ".*does not have many workers")  # collating costs less than a process


_say = rank_zero_only(print)
