"""Laws of every objective there is, and TRL's numbers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.nca import NCA
from lit_prm.losses.pairs import AllPairs, BestWorst, CappedPairs, DisjointPairs, PairLoss
from tests.loss_inputs import random_view, rows_of, terms_of
from tests.rounding import float32_bound, largest

GOLDEN = json.loads((Path(__file__).parent / "golden" / "trl_losses.json").read_text())


def subclasses(base: Any) -> Iterator[type[Loss]]:
    """Every concrete objective of the library; test files may define others."""
    for found in base.__subclasses__():
        if not inspect.isabstract(found) and found.__module__.startswith("lit_prm."):
            yield found
        yield from subclasses(found)


def variants() -> Iterator[Any]:
    for found in subclasses(Loss):
        yield pytest.param(found(), id=found.__name__)
        if issubclass(found, PairLoss):
            for pairs in (AllPairs(), DisjointPairs(), CappedPairs(2), BestWorst()):
                name = f"{found.__name__}-{type(pairs).__name__}-per-problem"
                yield pytest.param(found(pairs, per_problem=True), id=name)


every_loss = pytest.mark.parametrize("loss", list(variants()))


def test_every_loss_is_found() -> None:
    names = {found.__name__ for found in subclasses(Loss)}
    assert names >= {"CE", "DPO", "NCA", "KTO", "InfoNCA", "KWayNCA", "PrefixCE"}
    assert names >= {"StepCE", "StepAbs", "StepSquared", "StepRank"}


@every_loss
@pytest.mark.parametrize("size", [1e4, -1e4, None], ids=["high", "low", "mixed"])
def test_huge_rewards_have_finite_terms_and_gradients(loss: Loss, size: float | None) -> None:
    signs = torch.randn(8, 12, generator=torch.Generator().manual_seed(2)).sign()
    values = (1e4 * signs if size is None else torch.full((8, 12), size)).requires_grad_()
    terms = terms_of(loss, random_view(values))
    (gradient,) = torch.autograd.grad(terms.sum(), values)
    assert len(terms)
    assert torch.isfinite(terms).all()
    assert torch.isfinite(gradient).all()


@every_loss
def test_the_cut_of_a_global_batch_changes_nothing(loss: Loss) -> None:
    """Micro-batches of whole problems: their terms sum up to the batch's, and so do the numbers of terms."""
    view = random_view(torch.randn(16, 12, generator=torch.Generator().manual_seed(3)))
    parts = [rows_of(view, (view.group == problem).nonzero().squeeze(1)) for problem in view.group.unique()]
    terms = torch.cat([terms_of(loss, part) for part in parts])
    rounding = len(terms) * float32_bound(30, 10.0)  # a term is of up to 16 pairs or 12 prefixes, of rewards below 5
    assert_close(terms.double().sum(), terms_of(loss, view).double().sum(), rtol=0, atol=rounding)
    assert sum(loss.num_terms(part.labels, part.group) for part in parts) == loss.num_terms(view.labels, view.group)


@every_loss
def test_the_number_of_terms_is_known_from_labels_alone(loss: Loss) -> None:
    view = random_view(torch.randn(16, 12, generator=torch.Generator().manual_seed(4)))
    assert loss.num_terms(view.labels, view.group) == len(terms_of(loss, view))


@every_loss
def test_the_order_of_problems_and_of_responses_changes_nothing(loss: Loss) -> None:
    view = random_view(torch.randn(16, 12, generator=torch.Generator().manual_seed(5)))
    by_row_order = isinstance(getattr(loss, "pairs", None), DisjointPairs | CappedPairs)
    problems = torch.randperm(4, generator=torch.Generator().manual_seed(6))
    inside = torch.arange(4) if by_row_order else torch.randperm(4, generator=torch.Generator().manual_seed(7))
    order = (4 * problems.unsqueeze(1) + inside).flatten()
    moved = terms_of(loss, rows_of(view, order))
    assert_close(moved.sort().values, terms_of(loss, view).sort().values, rtol=0, atol=float32_bound(30, 10.0))


@every_loss
def test_the_types_that_a_trainer_makes_default_change_nothing(loss: Loss) -> None:
    """Precision bf16-true lets torch make bfloat16 of what names no type: positions of tokens above 256, say."""
    view = random_view(torch.randn(2, 700, generator=torch.Generator().manual_seed(9)))
    terms = terms_of(loss, view)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        again = terms_of(loss, view)
    finally:
        torch.set_default_dtype(before)
    assert_close(again, terms)


@every_loss
def test_a_batch_without_responses_has_no_terms(loss: Loss) -> None:
    nothing = rows_of(random_view(torch.zeros(4, 12)), torch.zeros(0, dtype=torch.long))
    assert terms_of(loss, nothing).shape == (0,)


@every_loss
def test_terms_of_half_precision_rewards_are_float32(loss: Loss) -> None:
    seen = loss.observe(random_view(torch.randn(8, 12, generator=torch.Generator().manual_seed(8))))
    rounded = seen.rewards.bfloat16()
    terms = loss(rounded, seen.labels, seen.group)
    assert terms.dtype == torch.float32
    assert_close(terms, loss(rounded.float(), seen.labels, seen.group))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: c["name"])
def test_losses_equal_trls(case: dict[str, Any]) -> None:
    """Values and gradients of TRL on the same log-probs; provenance is in the file."""
    beta = GOLDEN["beta"]
    policy = torch.tensor(case["policy"], requires_grad=True)
    rewards = beta * (policy - torch.tensor(case["reference"]))
    kto = KTO(desirable=case.get("desirable", 1.0))
    loss = {"sigmoid": DPO(), "bco_pair": CE(), "nca_pair": NCA(), "kto": kto}[case["loss_type"]]
    mismatched = beta * (torch.tensor(case.get("kl_policy", [0.0])) - torch.tensor(case.get("kl_reference", [0.0])))
    zero = loss.zero_point(mismatched)
    value = loss(rewards - zero, torch.tensor(case["labels"]), torch.tensor(case["group"])).mean()
    (gradient,) = torch.autograd.grad(value, policy)
    # bco_pair adds the right and the wrong response's terms; ours is their mean
    halve = 0.5 if case["loss_type"] == "bco_pair" else 1.0
    terms = 10 + len(rewards)  # log-probs are subtracted, and beta is a factor of every gradient
    rounding = float32_bound(terms, beta * largest(policy))
    assert value.item() == pytest.approx(halve * case["loss"], abs=rounding)
    assert_close(gradient, halve * torch.tensor(case["gradient"]), rtol=0, atol=float32_bound(terms, beta))
