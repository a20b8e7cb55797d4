"""Laws of the metrics: what selection, votes, diagnosis and first_error say, however the rows arrive."""

from __future__ import annotations

import doctest
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics import MetricCollection

import lit_prm.evaluation.metrics
from lit_prm.evaluation import first_error, selection, votes
from lit_prm.evaluation.aggregates import AGGREGATES
from lit_prm.evaluation.discrimination import auc
from lit_prm.evaluation.metrics import (
    AnyOfN,
    BestOfNAccuracy,
    Brier,
    CalibrationError,
    FirstErrorF1,
    Majority,
    OutcomeAUC,
    StepAUC,
    Vote,
)
from lit_prm.evaluation.metrics.base import ResponseMetric
from lit_prm.evaluation.metrics.calibration import calibration_error
from lit_prm.evaluation.vote_weights import Sigmoid, Softmax

Columns = dict[str, Tensor]


def columns(seed: int, rows: int = 60, problems: int = 9, steps: int = 5) -> Columns:
    """Responses whose steps are whole numbers, exact in half precision too."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, steps + 1, rows)
    valid = np.arange(steps) < count[:, None]
    correct = rng.integers(0, 2, rows)
    error = np.where(correct == 1, -1, rng.integers(0, steps, rows) % count)
    drawn = {
        "scores": rng.integers(-8, 9, rows).astype(np.float32), "correct": correct,
        "steps": rng.integers(-8, 9, (rows, steps)).astype(np.float32) * valid, "valid": valid, "first_error": error,
        "problem": rng.integers(0, problems, rows), "row": rng.permutation(10 * rows)[:rows],
        "cluster": rng.integers(-1, 4, rows),
    }  # fmt: skip
    return {name: torch.tensor(value) for name, value in drawn.items()}


def everything() -> MetricCollection:
    return MetricCollection(
        {
            "bon": BestOfNAccuracy(3), "bon-min": BestOfNAccuracy(4, "min"), "bon-sum": BestOfNAccuracy(4, "sum"),
            "vote": Vote(3, Softmax()),
            "vote-mean": Vote(2, aggregate="mean"), "majority": Majority(3), "any": AnyOfN(2), "auc": OutcomeAUC(),
            "auc-within": OutcomeAUC(within_problems=True, aggregate="last"), "step-auc": StepAUC(),
            "f1": FirstErrorF1(threshold=-1.0), "f1-crossed": FirstErrorF1(), "ece": CalibrationError(bins=5),
            "brier": Brier(aggregate="min"),
        }
    )  # fmt: skip


def values(metrics: MetricCollection) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.compute().items()}


def part(batch: Columns, rows: Any) -> Columns:
    return {name: column[rows] for name, column in batch.items()}


def by_problem(batch: Columns, *names: str) -> Iterator[list[np.ndarray[Any, Any]]]:
    order = torch.argsort(batch["row"])
    for problem in torch.unique(batch["problem"]):
        mine = order[batch["problem"][order] == problem]
        yield [batch[name][mine].numpy() for name in names]


# ---- the numbers ----


def expected(batch: Columns) -> dict[str, float]:
    """Each number once more, by a loop over problems."""
    order = torch.argsort(batch["row"])
    b = {name: column[order].numpy() for name, column in batch.items()}
    least, steps, valid = AGGREGATES["min"](b["steps"], b["valid"]), b["steps"].astype(float), b["valid"]
    right = b["correct"].astype(bool)

    def mean(rule: Callable[..., float], *names: str) -> float:
        return float(np.mean([rule(*parts) for parts in by_problem(batch, *names)]))

    within = [
        auc(last[c == 1], last[c == 0])
        for s, v, c in by_problem(batch, "steps", "valid", "correct")
        if 0 < c.sum() < len(c) and (last := AGGREGATES["last"](s, v)) is not None
    ]
    judged = [
        (float(steps[i, t]), t == e)
        for i, e in enumerate(b["first_error"])
        for t in range(valid[i].sum())
        if e < 0 or t <= e
    ]
    return {
        "bon": mean(lambda s, c: selection.best_of_n(s, c, 3), "scores", "correct"),
        "bon-min": mean(
            lambda s, v, c: selection.best_of_n(AGGREGATES["min"](s, v), c, 4), "steps", "valid", "correct"
        ),
        "bon-sum": mean(
            lambda s, v, c: selection.best_of_n(AGGREGATES["sum"](s, v), c, 4), "steps", "valid", "correct"
        ),
        "vote": mean(lambda s, a, c: votes.weighted_vote(Softmax()(s), a, c, 3), "scores", "cluster", "correct"),
        "vote-mean": mean(
            lambda s, v, a, c: votes.weighted_vote(
                Sigmoid()(AGGREGATES["mean"](s, v)), a, c, 2
            ),
            "steps", "valid", "cluster", "correct",
        ),
        "majority": mean(lambda a, c: votes.majority(a, c, 3), "cluster", "correct"),
        "any": mean(lambda c: selection.any_of_n(c, 2), "correct"),
        "auc": auc(b["scores"][right], b["scores"][~right]),
        "auc-within": float(np.mean(within)),
        "step-auc": auc(np.array([r for r, wrong in judged if not wrong]), np.array([r for r, w in judged if w])),
        "f1": first_error.f1(first_error.first_below(steps, valid, -1.0), b["first_error"]),
        "f1-crossed": first_error.cross_fitted_f1(steps, valid, b["first_error"], b["problem"]),
        "ece": slow_calibration_error(b["scores"].tolist(), b["correct"].tolist(), 5),
        "brier": float(np.mean([(1 / (1 + math.exp(-s)) - c) ** 2 for s, c in zip(least, b["correct"], strict=True)])),
    }  # fmt: skip


def slow_calibration_error(scores: list[float], correct: list[int], bins: int) -> float:
    """Each response goes to the bin of the middle rank of those that score like it."""
    content: dict[int, list[tuple[float, int]]] = {}
    for score, right in zip(scores, correct, strict=True):
        middle = sum(s < score for s in scores) + (sum(s == score for s in scores) - 1) / 2
        content.setdefault(math.floor(middle * bins / len(scores)), []).append((1 / (1 + math.exp(-score)), right))
    error = 0.0
    for members in content.values():
        chance = sum(c for c, _ in members) / len(members)
        accuracy = sum(r for _, r in members) / len(members)
        error += len(members) / len(scores) * abs(chance - accuracy)
    return error


@pytest.mark.parametrize("seed", range(3))
def test_every_metric_is_what_its_function_says(seed: int) -> None:
    batch = columns(seed)
    metrics = everything()
    metrics.update(**batch)
    assert values(metrics) == pytest.approx(expected(batch), rel=1e-6)


@given(
    st.integers(0, 2**16),
    st.lists(st.integers(1, 59), max_size=4, unique=True),
    st.lists(st.integers(0, 59), max_size=9),
)
@settings(max_examples=10, deadline=None)
def test_neither_order_nor_cut_nor_repeated_rows_matter(seed: int, cuts: list[int], repeated: list[int]) -> None:
    batch = columns(seed)
    whole, pieces = everything(), everything()
    whole.update(**batch)
    order = np.concatenate([np.random.default_rng(seed).permutation(60), np.array(repeated, dtype=int)])
    for rows in np.split(order, sorted(cuts)):
        piece = part(batch, torch.tensor(rows, dtype=torch.long))
        longest = int(piece["valid"].sum(1).max()) if len(rows) else 0
        pieces.update(**piece | {name: piece[name][:, :longest] for name in ("steps", "valid")})
    a, b = values(whole), values(pieces)
    assert a == b or all(a[k] == b[k] or (math.isnan(a[k]) and math.isnan(b[k])) for k in a)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_may_come_in_any_precision(precision: torch.dtype) -> None:
    batch = columns(0)
    metrics = everything()
    metrics.update(**batch | {name: batch[name].to(precision) for name in ("scores", "steps")})
    assert values(metrics) == pytest.approx(expected(batch), rel=1e-6)


def test_what_is_not_valid_is_never_read() -> None:
    batch = columns(1)
    metrics = everything()
    metrics.update(**batch | {"steps": batch["steps"].masked_fill(~batch["valid"], torch.nan)})
    assert values(metrics) == pytest.approx(expected(batch), rel=1e-6)


# ---- as a torchmetric ----


def test_forward_gives_the_batchs_value_and_accumulates() -> None:
    batch = columns(2)
    halves = [part(batch, batch["problem"] < 5), part(batch, batch["problem"] >= 5)]
    metric = BestOfNAccuracy(3)
    names = ("scores", "correct", "problem", "row")
    for half in halves:
        alone = BestOfNAccuracy(3)
        alone.update(**{n: half[n] for n in names})
        assert metric(**{n: half[n] for n in names}) == alone.compute()
    assert float(metric.compute()) == pytest.approx(expected(batch)["bon"], rel=1e-6)


def test_reset_forgets_and_pickles_remember() -> None:
    batch = columns(3)
    metrics = everything()
    metrics.update(**columns(4))
    metrics.reset()
    metrics.update(**batch)
    again = pickle.loads(pickle.dumps(metrics))
    again.update(**part(batch, slice(0, 7)))
    assert values(again) == values(metrics) == pytest.approx(expected(batch), rel=1e-6)


def test_the_threshold_of_first_errors_is_exact_where_quantiles_miss_it() -> None:
    steps = np.zeros((1000, 1), np.float32)
    first = first_error.halves(np.arange(1000))
    for rows in (np.flatnonzero(first), np.flatnonzero(~first)):
        steps[rows[0]] = -1.0  # the wrong one of this half; all but one of 200 quantiles lie above it
        steps[rows[1]] = -2 / 3
    truth = np.where(steps[:, 0] == -1, 0, -1)
    columns = {"steps": steps, "valid": np.ones((1000, 1), bool), "first_error": truth, "problem": np.arange(1000)}
    metric = FirstErrorF1()
    metric.update(**{n: torch.tensor(v) for n, v in columns.items()}, row=torch.arange(1000))
    assert float(metric.compute()) == 1.0


def test_nothing_seen_is_nan() -> None:
    metric = Majority(2)
    metric.update(**dict.fromkeys(("correct", "problem", "row", "cluster"), torch.zeros(0, dtype=torch.long)))
    assert math.isnan(metric.compute())


def test_the_docstrings_example_runs() -> None:
    result = doctest.testmod(lit_prm.evaluation.metrics)
    assert result.attempted
    assert not result.failed


# ---- mistakes ----


def one(**changed: Any) -> Columns:
    plain = {"scores": [0.5, 0.1], "correct": [1, 0], "problem": [0, 0], "row": [0, 1]}
    return {name: torch.tensor(value) for name, value in (plain | changed).items()}


@pytest.mark.parametrize("changed", [{"correct": [0, 0]}, {"problem": [0, 1]}, {"scores": [0.8, 0.1]}])
def test_a_row_with_two_values_is_refused(changed: dict[str, Any]) -> None:
    metric = BestOfNAccuracy(1)
    metric.update(**one())
    row = {"correct": [1, 0], "problem": [0, 0], "row": [0, 1]} | changed
    metric.update(**one(**row))
    with pytest.raises(ValueError, match=f"row [01] came with {next(iter(changed))} .* reset"):
        metric.compute()


def test_a_repeated_row_may_differ_by_rounding() -> None:
    metric = BestOfNAccuracy(1)
    metric.update(**one())
    metric.update(**one(scores=[0.501, 0.1]))
    assert metric.compute() == 0.5


@pytest.mark.parametrize(
    ("metric", "given_columns", "message"),
    [
        (BestOfNAccuracy(1), {"scores": None}, "needs scores"),
        (BestOfNAccuracy(1, "min"), {}, "needs steps, valid"),
        (BestOfNAccuracy(1), {"scores": [[0.5, 0.1]]}, r"not one shape \[B\]"),
        (BestOfNAccuracy(1), {"scores": [math.nan, 0.1]}, "1 of 2 scores are nan, the first of row 0"),
        (
            BestOfNAccuracy(1, "min"),
            {"steps": [[1.0], [2.0]], "valid": [[True, True], [True, False]]},
            r"must both be \[B, S\]",
        ),
        (BestOfNAccuracy(0), {}, "n >= 1"),
    ],
)
def test_mistakes_are_named(metric: ResponseMetric, given_columns: dict[str, Any], message: str) -> None:
    batch = one(**{k: v for k, v in given_columns.items() if v is not None})
    with pytest.raises(ValueError, match=message):
        metric(**{k: v for k, v in batch.items() if given_columns.get(k, ()) is not None})


def test_unknown_aggregates_and_no_bins_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at least one of min"):
        BestOfNAccuracy(1, "median")
    with pytest.raises(ValueError, match="at least 1"):
        CalibrationError(bins=0)


# ---- calibration ----


def test_honest_chances_are_calibrated_and_boasts_are_not() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.05, 0.95, 20_000)
    right = (rng.random(20_000) < chance).astype(float)
    assert calibration_error(chance, right, 15) < 0.02
    assert calibration_error(np.full(4, 0.9), np.array([1.0, 0, 0, 0]), 2) == pytest.approx(0.65)
    assert calibration_error(np.array([0.2, 0.8]), np.array([0.0, 1.0]), 2) == pytest.approx(0.2)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=20), st.integers(1, 6))
@settings(deadline=None)
def test_calibration_error_is_its_slow_restatement(responses: list[tuple[int, bool]], bins: int) -> None:
    scores, right = [float(s) for s, _ in responses], [int(r) for _, r in responses]
    chance = 1 / (1 + np.exp(-np.array(scores)))
    assert calibration_error(chance, np.array(right, float), bins) == pytest.approx(
        slow_calibration_error(scores, right, bins), abs=1e-12
    )


def test_a_column_that_no_metric_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"AnyOfN.update got score\. The columns are row, problem"):
        AnyOfN(2).update(score=torch.zeros(1), correct=torch.ones(1), problem=torch.zeros(1), row=torch.zeros(1))
