"""What belongs together: hashes of a run and of the models it was made with, recorded once and compared everywhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_prm.storage.atomic import write_text
from lit_prm.storage.schemas import fitting, read_file

Identity = Mapping[str, str]
"""Hashes by name: ``run`` of the configuration that a run began with, ``base`` of the weights that the policy starts
from, ``reference`` and ``training reference`` of their weights, ``tokenizer`` of its files."""

FILE = "identity.json"  # in a run's folder
KEY = "identity"  # in a checkpoint
MODELS = ("base", "reference", "training reference", "tokenizer")

_REMEDY = "restore it from a copy: it holds hashes by name"

_log = logging.getLogger(__name__)
_warned: set[str] = set()


def write_identity(folder: Path, identity: Identity) -> None:
    """Record the identity of the run in ``folder``."""
    write_text(folder / FILE, json.dumps(dict(identity), indent=1) + "\n")


def read_identity(folder: Path) -> dict[str, str]:
    """The identity of the run in ``folder``; empty for a run begun before identities were recorded."""
    return read_file(folder / FILE, dict[str, str], _REMEDY) if (folder / FILE).exists() else {}


def identity_in(checkpoint: Mapping[str, Any], file: object) -> dict[str, str]:
    """The identity in the content of a checkpoint; empty for a checkpoint saved before identities were recorded."""
    return fitting(checkpoint.get(KEY) or {}, dict[str, str], file, _REMEDY)


def of_models(identity: Identity) -> dict[str, str]:
    """The identity without the run itself: what two runs may share."""
    return {name: identity[name] for name in MODELS if name in identity}


def refuse_mismatch(recorded: Identity, present: Identity, owner: str, place: str, remedy: str) -> None:
    """Raise ValueError, with both hashes, if a thing that two identities name has two values.

    ``owner`` says whose identity was recorded and ``place`` where the present one was found. What only one of them
    names is not compared.
    """
    both = [name for name in ("run", *MODELS) if name in recorded and name in present]
    if wrong := [name for name in both if recorded[name] != present[name]]:
        hashes = ", ".join(f"{name} {recorded[name][:12]} against {present[name][:12]}" for name in wrong)
        raise ValueError(f"{owner} and {place} do not belong together: the hashes are {hashes}. {remedy}")


def warn_unknown(owner: str) -> None:
    """Log once in a process that ``owner`` records no identity."""
    if owner not in _warned:
        _warned.add(owner)
        _log.warning("%s records no hashes of its base, reference and tokenizer, so they cannot be verified.", owner)
