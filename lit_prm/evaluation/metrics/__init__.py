"""Best-of-N accuracy, votes, AUC, first errors and calibration as torchmetrics, for any LightningModule or loop.

Every metric takes a batch of responses. A response is counted once, whichever rank it came from and however often a
sampler repeated it. B responses, S steps; ``steps`` and ``valid`` are [B, S], all other columns [B]
(``lit_prm.evaluation.metrics.base.COLUMNS`` explains each). Give a ``MetricCollection`` every column by keyword: each
metric takes those it needs.

>>> import torch
>>> from torchmetrics import MetricCollection
>>> from lit_prm.evaluation.metrics import BestOfNAccuracy, Majority
>>> metrics = MetricCollection({"bon": BestOfNAccuracy(2), "majority": Majority(2)})
>>> metrics.update(
...     scores=torch.tensor([0.3, 1.2, -0.5, 0.1]), correct=torch.tensor([0, 1, 1, 0]),
...     problem=torch.tensor([7, 7, 8, 8]), row=torch.tensor([0, 1, 2, 3]), cluster=torch.tensor([0, 1, 0, 1]))
>>> {name: value.item() for name, value in metrics.compute().items()}
{'bon': 0.5, 'majority': 0.5}
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prm.evaluation.metrics.calibration import Brier, CalibrationError
    from lit_prm.evaluation.metrics.selection import AnyOfN, BestOfNAccuracy, Majority, Vote
    from lit_prm.evaluation.metrics.separation import FirstErrorF1, OutcomeAUC, StepAUC

__all__ = [
    "AnyOfN", "BestOfNAccuracy", "Brier", "CalibrationError", "FirstErrorF1", "Majority", "OutcomeAUC", "StepAUC",
    "Vote",
]  # fmt: skip

_FILES = ("calibration", "selection", "separation")


def __getattr__(name: str) -> Any:
    """Import a metric when it is first used: torchmetrics imports transformers, if that is installed (5 CPU-s)."""
    if name in __all__:
        for module in (import_module(f"{__name__}.{file}") for file in _FILES):
            globals().update({metric: getattr(module, metric) for metric in __all__ if hasattr(module, metric)})
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its metrics are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
