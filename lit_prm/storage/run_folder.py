"""A run's folder: its configuration, whether the run is finished, its last checkpoint, and its lock."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_only

from lit_prm.storage.checkpoint_files import read_checkpoint
from lit_prm.storage.class_paths import class_of, is_safe
from lit_prm.storage.moved import with_names_of_today
from lit_prm.storage.run_files import config_of, flatten, status

# Options that may differ between a run and its continuation.
_FREE = {
    "ckpt_path", "config", "threads", "trainer.enable_progress_bar", "trainer.enable_model_summary",
    "trainer.limit_val_batches", "trainer.val_check_interval",  # validation during training changes no weights
    "verbose", "return_predictions",  # options of test and predict
}  # fmt: skip

# Locks of the run folders that this process uses, by lock file; held until the process ends.
_LOCKS: dict[Path, FileLock] = {}


def refuse_mixing(folder: Path, config: Callable[[], str], *, judging: bool = False) -> None:
    """Raise when ``folder`` holds a run of another configuration than the YAML of ``config()``; name every difference.

    A run that failed before its first checkpoint has nothing to lose: it may be corrected and started again.
    """
    last = folder / "checkpoints" / "last.ckpt"
    different = differences(folder, config()) if last.exists() or status(folder) == "FINISHED" else []
    if different:
        shown = "\n".join(different[:10])
        other = f"--run_dir {folder}-other" + (f" --ckpt_path {last}" if judging else "")
        raise ValueError(
            f"{folder} holds a run with another configuration:\n{shown}\n"
            + (f"keep both: {other}" if judging else f"remove the folder to start again, or keep both: {other}")
        )


def differences(folder: Path, config: str) -> list[str]:
    """One line for each option that differs from the run of ``folder`` and must not."""
    stored = folder / "config.yaml"
    return differing(config_of(stored), config) if stored.exists() else []


def differing(before: Mapping[str, Any], now: str) -> list[str]:
    """``differences`` of two resolved configurations."""
    old, new = _comparable(before), _comparable(with_names_of_today(yaml.safe_load(now)))
    different = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    return [f"  {k}: {old.get(k)!r} -> {new.get(k)!r}" for k in different]


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    options = flatten(config).items()
    flat = {k: _short(v) for k, v in options if k not in _FREE and not k.startswith("tuned.")}  # see its users
    kept = [c for c in listed(flat.pop("trainer.callbacks", None)) if not is_progress(c)]
    return flat | {"trainer.callbacks": kept}


def _short(value: Any) -> Any:
    """The value; a loss's class path without its file: `lit_prm.losses.ce.CE` is also `lit_prm.losses.CE`."""
    return re.sub(r"^(lit_prm\.losses)\.\w+\.(?=\w+$)", r"\1.", value) if isinstance(value, str) else value


def refuse_other_folders(config: Namespace) -> None:
    """Raise ValueError if a part of the run would write outside ``run_dir``, e.g. into the run of a copied config."""
    trainer, run = config.trainer, Path(config.run_dir).resolve()
    parts = [c for c in (*listed(trainer.callbacks), *listed(trainer.logger)) if not isinstance(c, bool)]
    folders = {f"folder of {part['class_path']}": (part.get("init_args") or {}).get("folder") for part in parts}
    for name, folder in {"trainer.default_root_dir": trainer.default_root_dir, **folders}.items():
        if folder is not None and not Path(str(folder)).resolve().is_relative_to(run):
            raise ValueError(
                f"{name} is {folder}, outside run_dir {config.run_dir}, so two runs would mix; a resolved config "
                "belongs to its own run_dir: use the files it was made from, or write ${run_dir} for its folders"
            )


@rank_zero_only
def hold(folder: Path) -> None:
    """Lock ``folder`` until this process ends. Raises RuntimeError if another process holds the lock."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.resolve() / ".lock"
    if file in _LOCKS and file.exists():
        return
    _LOCKS[file] = FileLock(str(file))
    try:
        _LOCKS[file].acquire(blocking=False)
    except Timeout:
        del _LOCKS[file]
        raise RuntimeError(
            f"another process works on this run ({folder}); wait until it ends, or use another --run_dir"
        ) from None


def last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint of the run in ``folder``; None without one. Raises ValueError if the file is damaged."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists():
        return None
    if last.is_file():  # some strategies save folders
        read_checkpoint(last)
    return str(last)


def listed(given: Any) -> list[Any]:
    """A config value that may be None, one item or a list, as a list."""
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]


def is_progress(part: Any) -> bool:
    """True if a callback of a config is a progress bar; False for a class of a module that is not imported."""
    with suppress(TypeError, KeyError, ValueError):
        return is_safe(part["class_path"]) and bool(class_of(part["class_path"], ProgressBar))
    return False
