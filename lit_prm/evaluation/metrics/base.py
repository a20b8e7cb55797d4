"""The base of all metrics: states hold columns of responses, gathered over ranks, each response once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_prm.evaluation.aggregates import AGGREGATES, refuse_unknown_aggregates

Floats = NDArray[np.float64]
Array = NDArray[Any]

SAME = 1e-2  # largest relative difference of one row's scores: reduced precision gives other digits in another batch

COLUMNS = {  # of a batch of B responses with S steps
    "row": "[B] number of the response, its own over all ranks",
    "problem": "[B] number of its problem",
    "correct": "[B] 0 or 1, or a share",
    "cluster": "[B] number of the response's answer among the problem's distinct answers, -1 for no answer",
    "scores": "[B] higher is better; for metrics of probabilities the log-odds of being right",
    "steps": "[B, S] step rewards",
    "valid": "[B, S] True where there is a step",
    "first_error": "[B] index of the first wrong step, -1 for none",
}

_INTEGER = ("row", "problem", "cluster", "first_error", "width")


@dataclass(frozen=True)
class ResponseColumns:
    """A column [R] for each name, of R distinct responses in the order of their rows."""

    columns: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    @property
    def steps(self) -> Floats:
        """[R, S] step rewards, 0 where there is no step."""
        return self["steps"]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """[R, S] True where there is a step."""
        return self["valid"].astype(bool)

    def score(self, aggregate: str | None) -> Floats:
        """[R] the column ``scores``, or the ``aggregate`` of the step rewards; raises ValueError for nan."""
        score = self["scores"] if aggregate is None else AGGREGATES[aggregate](self.steps, self.valid)
        if np.isnan(score).any():
            raise ValueError(
                f"{np.isnan(score).sum()} of {len(score)} scores are nan, the first of row "
                f"{self['row'][np.isnan(score)][0]}. Leave those responses out, or mark their steps as not valid."
            )
        return score

    def problems(self) -> list[NDArray[np.intp]]:
        """Indices of each problem's responses; problems in ascending order of their number."""
        order = np.argsort(self["problem"], kind="stable")
        _, start = np.unique(self["problem"][order], return_index=True)
        return np.split(order, start[1:]) if len(order) else []


class ResponseMetric(Metric):
    """Base of metrics of responses, which may arrive in any order, on any ranks, some of them twice.

    ``columns`` names what a subclass needs of ``COLUMNS``; ``row`` is always needed. A row that arrives with two
    different values is an error.

    Few states, because each is gathered by itself: one for integer columns, one for float columns, one for steps with
    their validity. The states are one-dimensional, so ranks may hold different numbers of responses and of steps,
    or none. A state's name lists its columns, so a ``MetricCollection`` shares states between metrics.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = True

    def __init__(self, *columns: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        steps = ["steps"] if "steps" in columns else []
        self._needed = {"row", *columns} | ({"valid"} if steps else set())
        held = sorted((self._needed - {"steps", "valid"}) | ({"width"} if steps else set()))
        integer, real = [n for n in held if n in _INTEGER], [n for n in held if n not in _INTEGER]
        tables = ((integer, torch.int64), (real, torch.float64), (steps, torch.float64))
        self._tables = {"_".join(names): (names, dtype) for names, dtype in tables if names}
        for name in self._tables:
            self.add_state(f"of_{name}", [], dist_reduce_fx="cat")

    @abstractmethod
    def value(self, responses: ResponseColumns) -> float:
        """The metric's value for at least one response."""

    def compute(self) -> Tensor:
        """The value as a scalar tensor; nan without responses or if the metric is undefined."""
        responses = self._responses()
        value = self.value(responses) if len(responses["row"]) else float("nan")
        return torch.tensor(value, dtype=torch.float32, device=self.device)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather over ranks; a rank without responses contributes empty columns of the same dtypes."""
        for name, (_, dtype) in self._tables.items():
            if isinstance(getattr(self, f"of_{name}"), list) and not getattr(self, f"of_{name}"):
                setattr(self, f"of_{name}", [torch.zeros(0, dtype=dtype, device=self.device)])
        super().sync(*args, **kwargs)

    def update(self, **columns: Tensor) -> None:
        """Add a batch of responses; the names of the arguments are those of ``COLUMNS``.

        Columns that the metric does not need are ignored, and so are ``steps`` where not ``valid``.
        """
        if unknown := sorted(columns.keys() - COLUMNS.keys()):
            known = ", ".join(COLUMNS)
            raise ValueError(f"{type(self).__name__}.update got {', '.join(unknown)}. The columns are {known}.")
        if missing := sorted(self._needed - columns.keys()):
            raise ValueError(f"{type(self).__name__}.update needs {', '.join(missing)}. Give each by keyword.")
        batch = {name: columns[name].detach() for name in self._needed}
        if "steps" in self._needed:
            batch |= _flat(batch["steps"], batch["valid"])
        _check_shapes({n: batch[n] for names, _ in self._tables.values() for n in names if n != "steps"})
        for name, (names, dtype) in self._tables.items():
            table = torch.stack([batch[n].to(self.device, dtype) for n in names], 1)  # [B, C]
            getattr(self, f"of_{name}").append(table.flatten())

    def _responses(self) -> ResponseColumns:
        columns: dict[str, Array] = {}
        for name, (names, dtype) in self._tables.items():
            state: list[Tensor] | Tensor = getattr(self, f"of_{name}")
            tensor = dim_zero_cat(state) if len(state) else torch.zeros(0)
            columns |= zip(names, tensor.to(dtype).cpu().numpy().reshape(-1, len(names)).T, strict=True)
        if "steps" in columns:
            columns["steps"], columns["valid"] = _padded(columns["steps"], columns.pop("width"))
        _, first, of = np.unique(columns["row"], return_index=True, return_inverse=True)
        for name, column in columns.items():
            _check_equal_values(name, column, column[first][of], columns["row"])
        return ResponseColumns({name: column[first] for name, column in columns.items()})


class ScoreMetric(ResponseMetric):
    """Base of metrics of scores: the column ``scores``, or the ``aggregate`` (e.g. "min") of ``steps``."""

    def __init__(self, *columns: str, aggregate: str | None = None, **kwargs: Any) -> None:
        if aggregate is not None:
            refuse_unknown_aggregates([aggregate])
        super().__init__("scores" if aggregate is None else "steps", *columns, **kwargs)
        self.aggregate = aggregate


def per_problem(responses: ResponseColumns, *columns: Array) -> Iterator[tuple[Array, ...]]:
    """The parts of the columns that belong to each problem, problem by problem."""
    for places in responses.problems():
        yield tuple(column[places] for column in columns)


def _flat(steps: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Flat steps and validity of every response, one after the other, and the number of columns of each response."""
    if steps.shape != valid.shape or steps.ndim != 2:
        raise ValueError(
            f"steps {tuple(steps.shape)} and valid {tuple(valid.shape)} must both be [B, S]. Pad steps, mark real ones."
        )
    pairs = torch.stack([steps.double().masked_fill(~valid.bool(), 0), valid.double()], 1)  # [B, 2, S]
    return {"steps": pairs.flatten(), "width": torch.full(steps.shape[:1], steps.shape[1])}


def _padded(flat: Floats, width: Array) -> tuple[Floats, Floats]:
    """Step rewards and validity from the flat state, padded to the widest batch; [R, S] each."""
    exists = np.arange(width.max(initial=0)) < np.repeat(width[:, None, None], 2, 1)
    pairs = np.zeros(exists.shape)
    pairs[exists] = flat
    return pairs[:, 0], pairs[:, 1]


def _check_shapes(columns: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in columns.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(
            f"the columns of one batch have the shapes {shapes}, not one shape [B]. Give one value per response."
        )


def _check_equal_values(name: str, column: Array, first: Array, row: Array) -> None:
    exact = name in _INTEGER or name == "correct"
    known = column[np.isfinite(column)]
    spread = SAME * float(np.ptp(known)) if known.size else 0.0  # scores have no fixed scale
    same = column == first if exact else np.isclose(column, first, rtol=SAME, atol=spread, equal_nan=True)
    different = np.flatnonzero(~same.reshape(len(row), -1).all(1)) if same.size else np.zeros(0, dtype=int)
    if len(different):
        i = different[0]
        raise ValueError(
            f"row {row[i]} came with {name} {first[i]} and {column[i]}, but a row number stands for one response. "
            "Number the responses over all ranks, and reset the metric between evaluations."
        )
