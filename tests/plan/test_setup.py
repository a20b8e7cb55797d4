"""What a plan takes from a configuration: classes decide, not how they are called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from lit_prm.commands.experiment import options
from lit_prm.commands.lightning import resolved_config
from lit_prm.commands.plan.setup_of import setup_of
from lit_prm.data.batch import Batch
from lit_prm.models.adapters import AdaptedReward, LoRAReward
from lit_prm.models.reference import Frozen, Reference, Stored, Uniform
from lit_prm.models.reward_model import ImplicitReward, RewardModel, StepHead
from lit_prm.storage.class_paths import class_path_of


class MyReward(ImplicitReward):
    pass


class MyLoRA(LoRAReward):
    pass


class MyClassifier(StepHead):
    pass


class MyStore(Stored):
    pass


class MyFrozen(Frozen):
    pass


class MySource(Reference):
    def logps(self, batch: Batch) -> torch.Tensor:
        raise AssertionError


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(resolved_config(options("ce-8resp", "1xh100", 0, ())))
    return found


def changed(config: dict[str, Any], reward: type[RewardModel], reference: type[Reference]) -> dict[str, Any]:
    model = config["model"]
    parts = {
        "reward_model": model["reward_model"] | {"class_path": class_path_of(reward)},
        "reference": model["reference"] | {"class_path": class_path_of(reference)},
    }
    return config | {"model": model | parts}


@pytest.mark.parametrize(
    ("known", "own"),
    [
        ((ImplicitReward, Stored), (MyReward, MyStore)),
        ((ImplicitReward, Frozen), (MyReward, MyFrozen)),
        ((LoRAReward, Stored), (MyLoRA, MyStore)),
        ((StepHead, Stored), (MyClassifier, MyStore)),
    ],
)
def test_a_users_subclass_is_planned_like_the_class_it_extends(
    known: tuple[Any, Any], own: tuple[Any, Any], config: dict[str, Any]
) -> None:
    assert setup_of(changed(config, *own), on_gpu=True) == setup_of(changed(config, *known), on_gpu=True)


def test_each_class_is_planned_as_what_it_is(config: dict[str, Any]) -> None:
    setups = [
        setup_of(changed(config, *classes), on_gpu=True)
        for classes in ((ImplicitReward, Stored), (ImplicitReward, Frozen), (ImplicitReward, Uniform),
                        (LoRAReward, Stored), (StepHead, Stored))
    ]  # fmt: skip
    assert [s.reference for s in setups] == ["stored", "live", "none", "adapter off", "none"]
    assert [s.word_head for s in setups] == [True, True, True, True, False]
    assert [s.lora is not None for s in setups] == [False, False, False, True, False]
    assert [s.filled_by == "nobody" for s in setups] == [False, True, True, False, False]


def test_what_trains_nothing_and_what_is_unknown_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="AdaptedReward reads an adapter that is there and trains nothing"):
        setup_of(changed(config, AdaptedReward, Stored), on_gpu=True)
    with pytest.raises(ValueError, match="the memory of reference MySource is not known; plan with one of Stored"):
        setup_of(changed(config, ImplicitReward, MySource), on_gpu=True)
