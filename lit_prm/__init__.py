"""Process reward models from outcome labels: train them, evaluate them and score responses with them.

The public API is ``load``, ``LitPRM`` and ``RolloutDataModule``; losses are in ``lit_prm.losses``, metrics in
``lit_prm.evaluation.metrics``, callbacks in ``callbacks``. Names are imported on first use: importing this package
imports neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lit_prm.storage import moved

if TYPE_CHECKING:
    from lit_prm.scoring.loading import load
    from lit_prm.training.datamodule import RolloutDataModule
    from lit_prm.training.module import LitPRM

    __version__: str

moved.install()

__all__ = ["LitPRM", "RolloutDataModule", "__version__", "load"]

_MODULES = {
    "load": "lit_prm.scoring.loading",
    "LitPRM": "lit_prm.training.module",
    "RolloutDataModule": "lit_prm.training.datamodule",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        value: Any = _installed_version()
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'lit_prm' has no attribute {name!r}; its names are {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _installed_version() -> str:
    """Version of the installed distribution; "0+unknown" in a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lit_prm")
    except PackageNotFoundError:
        return "0+unknown"
