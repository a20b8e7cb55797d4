"""Selection, separation, first errors and calibration as torchmetrics, over ranks as over one process.

Every metric takes a batch of responses and counts each row once, whichever rank it came from and however often a
sampler repeated it. B responses, S steps; all but ``steps`` and ``valid`` are [B]. Give a ``MetricCollection`` every
column by keyword: each metric takes what it needs.

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

from lit_prm.evaluation.metrics.calibration import Brier, CalibrationError
from lit_prm.evaluation.metrics.selection import AnyOfN, BestOfNAccuracy, Majority, Vote
from lit_prm.evaluation.metrics.separation import FirstErrorF1, OutcomeAUC, StepAUC

__all__ = [
    "AnyOfN",
    "BestOfNAccuracy",
    "Brier",
    "CalibrationError",
    "FirstErrorF1",
    "Majority",
    "OutcomeAUC",
    "StepAUC",
    "Vote",
]
