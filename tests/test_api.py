"""What `from lit_prm import ...` gives, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version
from inspect import isabstract
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lit_prm
import lit_prm.losses
from lit_prm.losses import CE, DPO, NCA, BestWorst, InfoNCA, Loss
from lit_prm.storage.run_folder import differing

# imports in one fresh interpreter, from light to heavy, and what is absent behind each
ABSENT = {
    "import lit_prm; lit_prm.__version__; dir(lit_prm)": {"torch", "lightning", "transformers", "numpy"},
    "import lit_prm.losses": {"transformers", "lightning"},
    "import lit_prm.models.logps, lit_prm.models.values": {"transformers", "lightning"},
    "import lit_prm.evaluation.metrics": {"transformers", "lightning"},
}
# Torchmetrics imports transformers where that is installed; a stand-in takes its place.
WITHOUT_TORCHMETRICS = """from types import ModuleType
stand_in, utilities = ModuleType("torchmetrics"), ModuleType("torchmetrics.utilities")
stand_in.Metric, utilities.dim_zero_cat = object, sum
sys.modules |= {"torchmetrics": stand_in, "torchmetrics.utilities": utilities}
from lit_prm.evaluation.metrics import *"""


@pytest.fixture(scope="module")
def modules_after() -> dict[str, set[str]]:
    """The names of all modules that a fresh interpreter has imported behind each line of code, run in turn."""
    codes = [*ABSENT, WITHOUT_TORCHMETRICS]
    code = "\n".join(["import sys", *(f"{code}\nprint(*sys.modules)" for code in codes)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {code: set(line.split()) for code, line in zip(codes, done.stdout.splitlines(), strict=True)}


@pytest.mark.parametrize("code", ABSENT)
def test_an_import_brings_no_library_that_it_does_not_need(code: str, modules_after: dict[str, set[str]]) -> None:
    """Losses and metrics in anybody's own loop import them."""
    assert "lit_prm" in modules_after[code]
    assert not ABSENT[code] & modules_after[code]


def test_metrics_bring_transformers_only_through_torchmetrics(modules_after: dict[str, set[str]]) -> None:
    modules = modules_after[WITHOUT_TORCHMETRICS]
    assert {f"lit_prm.evaluation.metrics.{name}" for name in ("calibration", "selection", "separation")} <= modules
    assert not {"transformers", "lightning"} & modules


def test_public_names_are_the_classes_of_their_modules() -> None:
    from lit_prm import LitPRM, RolloutDataModule, load
    from lit_prm.scoring import loading
    from lit_prm.training import datamodule, module

    assert (LitPRM, RolloutDataModule, load) == (module.LitPRM, datamodule.RolloutDataModule, loading.load)
    assert set(lit_prm.__all__) <= set(dir(lit_prm))
    assert lit_prm.__version__ == version("lit_prm")


def test_a_name_that_does_not_exist_is_an_attribute_error_with_the_names_that_do() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Scorer'.*LitPRM"):
        lit_prm.Scorer  # noqa: B018


def test_every_loss_can_be_imported_from_the_package() -> None:
    def below(base: type) -> set[type]:
        return {base}.union(*map(below, base.__subclasses__()))

    ours = {loss for loss in below(Loss) if loss.__module__.startswith("lit_prm.losses.")}
    assert {loss.__name__ for loss in ours if not isabstract(loss)} <= set(lit_prm.losses.__all__)
    assert all(getattr(lit_prm.losses, name) is not None for name in lit_prm.losses.__all__)


def test_a_loss_in_a_new_file_is_exported_without_another_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halved.py").write_text(
        "from lit_prm.losses.ce import CE\nclass Halved(CE):\n    def __call__(self, r, y, g):\n"
        "        return super().__call__(r, y, g) / 2\n"
    )
    before = list(lit_prm.losses.__all__)
    monkeypatch.setattr(lit_prm.losses, "__path__", [str(tmp_path)])
    monkeypatch.setattr(lit_prm.losses, "__all__", before.copy())
    lit_prm.losses._discover()
    assert lit_prm.losses.__all__ == [*before, "Halved"]
    assert (
        importlib.import_module("lit_prm.losses").Halved().mean(*(torch.zeros(2),) * 3)
        == CE().mean(*(torch.zeros(2),) * 3) / 2
    )
    sys.modules.pop("lit_prm.losses.halved")
    monkeypatch.delattr(lit_prm.losses, "Halved")


def test_a_loss_named_with_its_file_is_the_same_loss_to_a_run_that_goes_on() -> None:
    before = {"model": {"loss": {"class_path": "lit_prm.losses.ce.CE"}}}
    assert differing(before, "model: {loss: {class_path: lit_prm.losses.CE}}") == []
    assert differing(before, "model: {loss: {class_path: lit_prm.losses.DPO}}") != []


# --- losses in a training loop without Lightning --------------------------------------------------


@pytest.mark.parametrize("loss", [DPO(), NCA(BestWorst()), DPO(per_problem=True)])
def test_a_batch_without_pairs_changes_no_weight(loss: Loss) -> None:
    layer, labels, group = nn.Linear(3, 1), torch.ones(4), torch.tensor([0, 0, 1, 1])
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = layer.weight.detach().clone()
    value = loss.mean(layer(torch.randn(4, 3)).squeeze(1), labels, group)
    value.backward()
    optimizer.step()
    assert value == 0
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("loss", [CE(), DPO(), InfoNCA()])
def test_the_mean_is_that_of_the_terms(loss: Loss) -> None:
    rewards, labels, group = torch.randn(6), torch.tensor([1.0, 0, 1, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert_close(loss.mean(rewards, labels, group), loss(rewards, labels, group).mean())
