"""The reference store is filled before whatever reads it, once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.trainer.states import TrainerFn

from callbacks import FillReference


@pytest.mark.parametrize(("fn", "times"), [(TrainerFn.VALIDATING, 1), (TrainerFn.FITTING, 0)])
def test_a_validation_of_its_own_fills_it_and_one_within_training_does_not(
    fn: TrainerFn, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = list[Any]()
    monkeypatch.setattr(FillReference, "_prepare", lambda self, *both: filled.append(both))
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn=fn))
    FillReference().on_validation_start(trainer, None)  # type: ignore[arg-type]
    assert len(filled) == times
