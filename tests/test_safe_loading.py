"""Scoring, exporting and going on run no code of the folders that they read."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from lit_prm.commands.main import main
from lit_prm.models.language_model import load_model, load_tokenizer
from lit_prm.scoring.export.command import export
from lit_prm.scoring.loading import load
from lit_prm.storage.run_folder import refuse_mixing
from tests.conftest import Touch
from tests.damages import OWN, PAYLOAD, path
from tests.test_export import run_folder, trained


@pytest.fixture
def folder(
    policy_folder: Path, reference_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """An export, with a module beside its files, in the folder in which Python looks for modules first."""
    run = run_folder(
        tmp_path / "run", "ImplicitReward", policy_folder, reference_folder,
        trained("ImplicitReward", policy_folder, reference_folder),
    )  # fmt: skip
    export(str(run), tmp_path / "export")
    (tmp_path / "export" / f"{OWN}.py").write_text(PAYLOAD)
    shutil.copy(tmp_path / "export" / f"{OWN}.py", run)
    monkeypatch.chdir(tmp_path / "export")
    monkeypatch.syspath_prepend(tmp_path / "export")
    yield tmp_path / "export"
    sys.modules.pop(OWN, None)


def test_a_module_that_the_user_names_is_imported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = json.loads((folder / "reward.json").read_text()) | {"identity": {}}
    spec.update(reward_model=path("Model", policy="."))
    (folder / "reward.json").write_text(json.dumps(spec))
    (folder / "check.json").unlink()
    rollouts = folder / "rollouts.jsonl"
    rollouts.write_text(
        json.dumps({"prompt": "1 + 1?", "completions": ["2", "3"], "correctness": [True, False]}) + "\n"
    )
    main(["score", str(folder), str(rollouts), "--out", str(folder / "scored.jsonl"), "--import", OWN])
    assert (folder / "touched").exists()
    assert "1 problems, 2 responses" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["score", str(folder), str(rollouts), "--import", "not_there"])
    assert "not_there cannot be imported" in capsys.readouterr().err


def test_going_on_imports_no_module_that_the_recorded_configuration_names(folder: Path) -> None:
    run = folder.parent / "run"
    config = yaml.safe_load((run / "config.yaml").read_text())
    now = yaml.safe_dump(config)
    config["trainer"]["callbacks"] = [path("Source")]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=rf"holds a run with another configuration:\n  trainer.callbacks: .*{OWN}"):
        refuse_mixing(run, lambda: now)
    assert not (folder / "touched").exists()


def test_an_export_with_weights_in_a_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": Touch(tmp_path / "made")}, folder / "head.bin")
    spec = json.loads((folder / "reward.json").read_text()) | {"weights": "head.bin", "identity": {}}
    (folder / "reward.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=r"names the weights .*head.bin. An export holds weights in safetensors files"):
        load(folder)
    assert not (tmp_path / "made").exists()


def test_a_models_own_pickle_makes_no_object(policy_folder: Path, tmp_path: Path) -> None:
    """transformers reads a .bin where there are no safetensors."""
    folder = shutil.copytree(policy_folder, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Touch(tmp_path / "made")}, folder / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported"):
        load_model(str(folder))
    assert not (tmp_path / "made").exists()


def test_a_folder_is_described_once(folder: Path, policy_folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder.parent / "run/config.yaml", folder)
    with pytest.raises(ValueError, match=r"holds config.yaml, as runs do, and reward.json, as exports do"):
        load(folder)
    model = shutil.copytree(policy_folder, tmp_path / "model")
    (model / "config.yaml").write_text("some: other program's\n")  # not read
    assert load(model, reference=str(policy_folder)).score_texts("1 + 1?", ["2"])[0].reward == 0.0


@pytest.mark.parametrize("known", [True, False])
def test_code_beside_a_model_is_neither_run_nor_asked_about(
    known: bool, policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model type of transformers is loaded by transformers' own class, another one is refused."""
    folder = shutil.copytree(policy_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "payload.Config", "AutoModelForCausalLM": "payload.Model"}
    config |= {"auto_map": classes} | ({} if known else {"model_type": "payload"})
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"auto_map": {"AutoTokenizer": ["payload.Slow", "payload.Fast"]}}
    tokenizer |= {} if known else {"tokenizer_class": "PayloadTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "payload.py").write_text("from pathlib import Path\nPath(__file__).with_name('touched').touch()\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    for read in (load_model, load_tokenizer):
        if known:
            read(str(folder))
        else:
            with pytest.raises(ValueError, match=r"custom code|model type `payload`"):
                read(str(folder))
    assert not (folder / "touched").exists()
