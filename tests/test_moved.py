from __future__ import annotations

import importlib
import json
import pickle
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from lit_prm.commands.main import main
from lit_prm.evaluation.metrics import BestOfNAccuracy
from lit_prm.evaluation.vote_weights import EqualWeight
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.storage import moved
from lit_prm.storage.run_files import config_of
from lit_prm.storage.run_folder import differing
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.worlds.tinymath.world import TinyMath

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def not_warned_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "_warned", [])


def imported(module: str, name: str) -> object:
    sys.modules.pop(module, None)
    with pytest.warns(FutureWarning, match=rf"{module}.* is now lit_prm\.\w+"):
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("module", "name", "present"), [
    ("lit_prm.reward_model", "ImplicitReward", ImplicitReward),
    ("lit_prm.tinymath", "TinyMath", TinyMath),
    ("lit_prm.tinymath.world", "TinyMath", TinyMath),
    ("lit_prm.data", "RolloutDataModule", RolloutDataModule),
    ("lit_prm.metrics", "BestOfN", BestOfNAccuracy),
    ("lit_prm.votes", "Uniform", EqualWeight),
    ("lit_prm.selection", "Uniform", EqualWeight),
])  # fmt: skip
def test_an_old_name_is_the_present_object_and_warns(module: str, name: str, present: object) -> None:
    assert imported(module, name) is present


@pytest.mark.parametrize("old", sorted(moved.NAMES))
def test_every_old_name_leads_somewhere(old: str) -> None:
    new = moved.NAMES[old]
    parent, _, name = new.rpartition(".")
    assert hasattr(importlib.import_module(parent), name) or importlib.import_module(new)


def test_the_warning_points_at_the_importing_line() -> None:
    sys.modules.pop("lit_prm.steps", None)
    with pytest.warns(FutureWarning) as warned:
        import lit_prm.steps  # type: ignore[import-not-found]  # noqa: F401
    assert warned[0].filename == __file__
    moved._warned.clear()
    with pytest.warns(FutureWarning) as warned:
        from lit_prm.data import RolloutDataModule  # noqa: F401
    assert warned[0].filename == __file__


def test_a_star_import_of_an_old_module_gives_its_public_names() -> None:
    found: dict[str, object] = {}
    sys.modules.pop("lit_prm.votes", None)
    with pytest.warns(FutureWarning):
        exec("from lit_prm.votes import *", found)
    assert found["Uniform"] is EqualWeight
    assert {"majority", "weighted_vote", "Votes"} <= found.keys()
    assert "_won" not in found


@pytest.mark.parametrize("given", ["weight: Uniform", "weight: {class_path: Uniform}", "weight:\n  class_path: Uniform",
                                   "--weight=Uniform"])  # fmt: skip
def test_a_vote_weight_s_bare_old_name_is_taken(given: str) -> None:
    with pytest.warns(FutureWarning, match=r"votes\.Uniform is now .*EqualWeight"):
        assert moved._text(given) == given.replace("Uniform", "lit_prm.evaluation.vote_weights.EqualWeight")
    assert moved._text("reference: Uniform") == "reference: Uniform"


def test_many_old_names_warn_once() -> None:
    imported("lit_prm.steps", "BlankLine")
    sys.modules.pop("lit_prm.zero", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("lit_prm.zero")


def test_an_unknown_name_below_an_old_module_is_refused_by_the_present_one() -> None:
    with pytest.raises(ImportError, match="nothing"):
        exec("from lit_prm.steps import nothing")
    with pytest.raises(ModuleNotFoundError, match=r"lit_prm\.training\.worlds\.tinymath\.nothing"):
        importlib.import_module("lit_prm.tinymath.nothing")
    with pytest.raises(ModuleNotFoundError, match=r"lit_prm\.never"):
        importlib.import_module("lit_prm.never")


def test_a_recorded_configuration_gets_the_present_names_at_any_depth(tmp_path: Path) -> None:
    text = """
    model: {loss: {class_path: lit_prm.losses.ce.CE}, reference: {class_path: lit_prm.reference.Stored}}
    trainer: {callbacks: [{class_path: callbacks.BestOfN, init_args: {weight: {class_path: lit_prm.votes.Sigmoid}}}]}
    """
    (tmp_path / "config.yaml").write_text(text)
    with pytest.warns(FutureWarning, match=r"lit_prm\.reference\.Stored is now lit_prm\.models\.reference\.Stored"):
        config = config_of(tmp_path / "config.yaml")
    assert config["model"]["loss"]["class_path"] == "lit_prm.losses.ce.CE"
    assert config["model"]["reference"]["class_path"] == "lit_prm.models.reference.Stored"
    weight = config["trainer"]["callbacks"][0]["init_args"]["weight"]
    assert weight["class_path"] == "lit_prm.evaluation.vote_weights.Sigmoid"


def test_a_pickle_with_an_old_name_loads() -> None:
    old = pickle.dumps(EqualWeight(), protocol=0).replace(
        b"clit_prm.evaluation.vote_weights\nEqualWeight", b"clit_prm.votes\nUniform"
    )
    assert b"votes\nUniform" in old
    sys.modules.pop("lit_prm.votes", None)
    with pytest.warns(FutureWarning):
        assert isinstance(pickle.loads(old), EqualWeight)


def test_old_and_present_names_of_a_class_are_no_difference_between_a_run_and_its_continuation() -> None:
    old, new = ({"model": {"reward_model": {"class_path": f"lit_prm.{name}.ImplicitReward"}}} for name in (
        "reward_model", "models.reward_model"))  # fmt: skip
    with pytest.warns(FutureWarning):
        assert differing(new, json.dumps(old)) == []
    assert len(differing(new, json.dumps({"model": {"reward_model": {"class_path": "lit_prm.own.Reward"}}}))) == 1


def test_a_user_s_config_file_with_old_class_paths_is_taken_with_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(
        "model:\n  reward_model:\n    class_path: lit_prm.reward_model.ImplicitReward\n"
        "  reference:\n    class_path: lit_prm.reference.Frozen\n    init_args: {model: x}\n"
    )
    options = [f"--config={REPOSITORY}/experiments/{name}.yaml" for name in ("base", "scale/tiny")]
    with pytest.warns(FutureWarning, match=r"is now lit_prm\.models\.") as warned, suppress(SystemExit):
        main(["fit", *options, f"--config={file}", "--print_config"])
    assert len(warned) == 1
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model["reward_model"]["class_path"] == "lit_prm.models.reward_model.ImplicitReward"
    assert model["reward_model"]["init_args"]["beta"] == 2.0  # an argument that base.yaml gives the same class
    assert model["reference"] == {
        "class_path": "lit_prm.models.reference.Frozen", "init_args": model["reference"]["init_args"]
    }  # fmt: skip
