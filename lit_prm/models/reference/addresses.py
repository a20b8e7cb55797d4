"""What a stored log-prob depends on: the model's weights, the precision, the machine."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import torch
import transformers

from lit_prm.models.language_model import Dtype
from lit_prm.models.weights import commit_of


def weights_id(name: str, dtype: Dtype) -> str:
    """Identity of a model's weights: sizes and times of a folder's files, or name and commit of a hub model.

    A hash of all weights would take too long at every start. Files that change in place change their modification time.
    """
    folder = Path(name)
    files = (
        sorted(p for p in folder.glob("*") if p.suffix in {".safetensors", ".json", ".bin"}) if folder.is_dir() else []
    )
    parts = [f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files] or [commit_of(name)]
    return hashlib.sha256("|".join([str(folder.resolve()) if files else name, dtype, *parts]).encode()).hexdigest()


def autocast_dtype(device: torch.device) -> str:
    """The precision that autocast makes a model compute in on this device; empty without autocast."""
    return str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else ""


def circumstances(device: torch.device) -> tuple[str, ...]:
    """What may change a model's log-probs beside its weights: releases, device, precision."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return (torch.__version__, transformers.__version__, device.type, name, autocast_dtype(device))
