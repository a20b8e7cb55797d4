"""LightningCLI over LitPRM and RolloutDataModule, with run folders that resume or refuse."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import callbacks  # noqa: F401  their bare class names become known to configs
from callbacks import RunRecord
from lit_prm.data import RolloutDataModule
from lit_prm.module import LitPRM
from lit_prm.tracking import flatten

# `${model.beta}` means the same in every file, after all files and overrides are merged.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

# What may differ between a run and its continuation.
_FREE = {"ckpt_path", "config", "threads", "trainer.enable_progress_bar", "trainer.enable_model_summary"}


class LitCLI(LightningCLI):
    """Adds the facts that several parts share, and keeps runs in folders that never mix."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", default="dev", help="what this run is called: an experiment file's stem")
        parser.add_argument("--scale", default="none", help="the scale file's stem")
        parser.add_argument("--run_dir", default="runs/none/dev", help="folder of everything this run writes")
        parser.add_argument("--threads", type=int | None, default=None, help="torch threads; by default all cores")
        parser.add_argument("--base_model", type=str, help="folder or hub name: policy at start, and reference")

    def before_instantiate_classes(self) -> None:
        """Continue the run of this folder, or refuse when it was made by another configuration."""
        config = self.config[self.subcommand]
        if config.threads:
            torch.set_num_threads(config.threads)
        if self.subcommand != "fit" or config.trainer.fast_dev_run:
            return
        refuse_mixing(Path(config.run_dir), self.parser_of_subcommand().dump(config, skip_link_targets=False))
        last = Path(config.run_dir) / "checkpoints" / "last.ckpt"
        if config.ckpt_path is None and last.exists():
            print(f"continuing {config.run_dir} from its last checkpoint")
            config.ckpt_path = str(last)

    def parser_of_subcommand(self) -> LightningArgumentParser:
        """The parser that read this command's options."""
        return cast(LightningArgumentParser, self._subcommand_parsers[str(self.subcommand)])


def run(args: Sequence[str]) -> LitCLI:
    """Parse and run one LightningCLI command; the returned object holds trainer, model and data."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked after tokenizers were used
    for chatty in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # our own front end passes them
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec", FutureWarning)  # Lightning's own use
    return LitCLI(
        LitPRM,
        RolloutDataModule,
        args=list(args),
        auto_configure_optimizers=False,
        save_config_callback=RunRecord,
        save_config_kwargs={"overwrite": True},
        # omegaconf+ resolves after files and overrides; abbreviations would accept misspelt options
        parser_kwargs={"parser_mode": "omegaconf+", "allow_abbrev": False},
    )


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
