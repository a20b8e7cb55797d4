"""What is advised where memory is short."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lit_prm.commands.plan.remedies import remedies
from lit_prm.commands.plan.setup import Setup
from tests.plan.planning import planned, setup_at


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_options_that_make_it_fit() -> None:
    found = planned("ce-8resp", "8xh100", "--model.reward_model.init_args.gradient_checkpointing=false")
    assert found.numbers["remedies"] == ["--model.reward_model.init_args.gradient_checkpointing true"]
    assert "gradient_checkpointing true" in found.verdict


CHECKPOINTING = {"--model.reward_model.init_args.gradient_checkpointing": "true"}


def test_remedies_add_up_and_end() -> None:
    def peak(of: Setup) -> int:
        return of.max_length + of.checkpointing * -10 + (4 - getattr(of.sharding, "stage", 0))

    plain = replace(setup_at("8xh100"), checkpointing=False)
    assert remedies(plain, 2050 - 10, peak, 8) == CHECKPOINTING
    stage, length = {"--trainer.strategy.init_args.stage": "3"}, {"--data.max_length": "1024"}
    assert remedies(plain, 1024 - 10 + 1, peak, 8) == CHECKPOINTING | stage | length
    assert remedies(plain, 0, peak, 8) is None


def test_a_change_that_helps_behind_others_only_is_tried_again() -> None:
    """The pass that fills the store is the larger one once training is cut into parts."""

    def peak(of: Setup) -> int:
        return max(10 - 2 * getattr(of.sharding, "stage", 0), 7 if of.filled_by == "reference" else 1)

    setup = replace(setup_at("8xh100", "--trainer.strategy=ddp"), filled_by="reference", reference_dtype=torch.bfloat16)
    setup = replace(setup, dtype=torch.bfloat16)
    zero = {"--trainer.strategy": "lit_prm.training.zero.ZeRO", "--trainer.strategy.init_args.stage": "3"}
    assert remedies(setup, 5, peak, 8) == zero | {"--model.reference.init_args.from_policy": "true"}


@pytest.mark.slow
def test_what_is_advised_is_taken_and_makes_it_fit() -> None:
    found = planned(
        "ce-8resp", "8xh100", "--trainer.strategy=ddp", "--model.reference.init_args.from_policy=false", memory=36
    )
    words = [word for option in found.numbers["remedies"] for word in option.split()]
    assert "lit_prm.training.zero.ZeRO" in words
    again = planned("ce-8resp", "8xh100", "--trainer.strategy=ddp", *words, memory=36)
    assert again.numbers["fits"]
