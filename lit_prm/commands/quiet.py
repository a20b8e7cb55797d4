"""Silences messages and warnings that a user cannot act on."""

from __future__ import annotations

import logging
import os
import warnings

import torch


def keep_quiet() -> None:
    """Set environment, log levels and warning filters of a training process; no library sends telemetry."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked after tokenizers were used
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")  # else DeepSpeed warns
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # about how Lightning calls jsonargparse
    for chatty in ("lightning.pytorch", "lightning.fabric"):  # devices, seeds, advertisements
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # `run` passes them on purpose
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec", FutureWarning)  # Lightning's own use
    # DeepSpeed's use of torch 2.13, at every gather of every layer
    warnings.filterwarnings("ignore", ".*(all_gather_into_tensor|reduce_scatter_tensor)` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable")  # `Updates` resumes inside an epoch
    warnings.filterwarnings("ignore", ".*does not have many workers")  # collating costs less than a process
