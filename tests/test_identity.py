"""A run, its base, its reference, its tokenizer and its checkpoints belong together; others are refused by hash."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from callbacks.run_identity import RunIdentity
from lit_prm.models.weights import tokenizer_hash, weights_hash
from lit_prm.scoring.building import present_identity
from lit_prm.scoring.export.command import export
from lit_prm.scoring.loading import load
from lit_prm.scoring.run_spec import spec_of_run
from lit_prm.storage.checkpoint_files import read_checkpoint
from lit_prm.storage.identity import read_identity, refuse_mismatch, write_identity
from tests.conftest import Touch, small_llama
from tests.test_export import run_folder, trained


@pytest.fixture
def started(policy_folder: Path, reference_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a run was started: its models, and `run` with its identity in folder and checkpoint."""
    here = tmp_path / "here"
    for name, model in (("base", policy_folder), ("reference", reference_folder)):
        shutil.copytree(model, here / "models" / name)
    monkeypatch.chdir(here)
    base, reference = Path("models/base"), Path("models/reference")
    run = run_folder(here / "run", "ImplicitReward", base, reference, trained("ImplicitReward", base, reference))
    record(run, present_identity(spec_of_run(run)) | {"run": "5" * 64})
    return here


def record(run: Path, identity: dict[str, str]) -> None:
    """Writes an identity into a run's folder and into its checkpoint."""
    write_identity(run, identity)
    last = run / "checkpoints" / "last.ckpt"
    torch.save(torch.load(last, weights_only=True) | {"identity": identity}, last)


def rewards(source: Path, **options: Any) -> list[float]:
    return [r.reward or 0.0 for r in load(source, **options).score_texts("1 + 1?", ["It is 2.", "3"])]


def other_weights(folder: Path) -> None:
    """Replaces the weights of a model's folder by others of the same size and time."""
    file = folder / "model.safetensors"
    before = file.stat()
    small_llama(9, json.loads((folder / "config.json").read_text())["vocab_size"]).save_pretrained(folder)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_run_scores_alike_from_every_folder(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home = rewards(started / "run")
    elsewhere = shutil.copytree(started / "models", tmp_path / "elsewhere" / "models").parent
    for name in ("base", "reference"):
        other_weights(elsewhere / "models" / name)
    monkeypatch.chdir(elsewhere)
    assert rewards(started / "run") == at_home


@pytest.mark.parametrize("what", ["base", "reference", "tokenizer"])
def test_a_run_with_another_model_than_it_was_trained_with_is_refused(what: str, started: Path) -> None:
    before = present_identity(spec_of_run(started / "run"))
    if what == "tokenizer":
        (started / "models/base/chat_template.jinja").write_text("{{ messages }}")
    else:
        other_weights(started / "models" / what)
    now = present_identity(spec_of_run(started / "run"))
    told = rf"the hashes are {what} {before[what][:12]} against {now[what][:12]}\. Put back the models"
    for command in (load, lambda run: export(str(run), started / "export")):
        with pytest.raises(ValueError, match=told):
            command(started / "run")
    assert not (started / "export").exists()


def test_a_reference_given_by_name_may_be_another(started: Path) -> None:
    other_weights(started / "models/reference")
    assert rewards(started / "run", reference=str(started / "models/reference"))


def test_an_export_with_other_weights_is_refused(started: Path) -> None:
    export(str(started / "run"), started / "export")
    other_weights(started / "export")
    with pytest.raises(ValueError, match=r"the hashes are base \w{12} against \w{12}\. Put back"):
        load(started / "export")


def test_an_export_of_version_0_1_knows_the_hash_of_its_reference(started: Path) -> None:
    export(str(started / "run"), started / "export")
    spec = json.loads((started / "export/reward.json").read_text())
    old = {k: v for k, v in spec.items() if k != "identity"} | {"reference_hash": spec["identity"]["reference"]}
    (started / "export/reward.json").write_text(json.dumps(old))
    assert rewards(started / "export")
    (started / "export/reward.json").write_text(json.dumps(old | {"reference_hash": "0" * 64}))
    with pytest.raises(ValueError, match="hashes are reference 000000000000 against"):
        load(started / "export")


def test_a_checkpoint_of_another_run_is_refused(started: Path) -> None:
    other = shutil.copytree(started / "run", started / "other")
    record(other, json.loads((other / "identity.json").read_text()) | {"run": "7" * 64})
    shutil.copy(other / "checkpoints/last.ckpt", started / "run/checkpoints/last.ckpt")
    with pytest.raises(ValueError, match=r"the hashes are run 555555555555 against 777777777777\. Give the folder"):
        load(started / "run")


def test_a_run_without_an_identity_is_scored_and_told_once(
    started: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_prm.storage.identity._warned", set())
    before = rewards(started / "run")
    (started / "run/identity.json").unlink()
    last = started / "run/checkpoints/last.ckpt"
    torch.save({"state_dict": torch.load(last, weights_only=True)["state_dict"]}, last)
    assert rewards(started / "run") == rewards(started / "run") == before
    assert [r.getMessage() for r in caplog.records if "records no hashes of its base" in r.getMessage()] == [
        f"{last} records no hashes of its base, reference and tokenizer, so they cannot be verified."
    ]


def test_one_wrong_bit_in_a_checkpoint_is_told(started: Path) -> None:
    last = started / "run/checkpoints/last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    with pytest.raises(ValueError, match=r"last.ckpt is damaged \(the checksum of .* is wrong\); restore it"):
        load(started / "run")


def test_a_hash_is_that_of_the_content_whatever_size_and_time_say(policy_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(policy_folder, tmp_path / "model")
    before, tokens = weights_hash(str(folder)), tokenizer_hash(str(folder))
    assert (weights_hash(str(folder)), tokenizer_hash(str(folder))) == (before, tokens)
    other_weights(folder)
    assert weights_hash(str(folder)) != before
    assert tokenizer_hash(str(folder)) == tokens
    (folder / "tokenizer.json").rename(folder / "tokenizer_old.json")
    assert tokenizer_hash(str(folder)) != tokens


# --- in training ----------------------------------------------------------------------------------

MODELS = {"base": "b" * 64, "reference": "e" * 64, "tokenizer": "c" * 64}


def begun(folder: Path, config: str = "seed: 0") -> RunIdentity:
    run = RunIdentity(folder)
    run.begin(MODELS, config)
    run.write()
    return run


@pytest.mark.parametrize("what", MODELS)
def test_a_run_does_not_go_on_with_another_model(what: str, tmp_path: Path) -> None:
    begun(tmp_path)
    RunIdentity(tmp_path).go_on(MODELS)
    with pytest.raises(ValueError, match=rf"hashes are {what} \w{{12}} against 0{{12}}\. Put back .*--run_dir"):
        RunIdentity(tmp_path).go_on(MODELS | {what: "0" * 64})


def test_a_run_whose_record_is_lost_takes_it_over_from_its_checkpoint(tmp_path: Path) -> None:
    checkpoint: dict[str, Any] = {}
    begun(tmp_path).save(checkpoint)
    (tmp_path / "identity.json").unlink()
    again = RunIdentity(tmp_path)
    again.go_on(MODELS)
    again.check(checkpoint, str(tmp_path / "last.ckpt"))
    assert read_identity(tmp_path) == again.hashes == checkpoint["identity"]
    with pytest.raises(ValueError, match="do not belong together"):
        again.check({"identity": checkpoint["identity"] | {"run": "0" * 64}}, str(tmp_path / "last.ckpt"))


@pytest.mark.parametrize("record", ['{"base": 3, "run": null}', '{"base": ["a"]}'])
def test_a_damaged_identity_is_told(record: str, tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text(record)
    with pytest.raises(ValueError, match=r"identity\.json is damaged"):
        read_identity(tmp_path)


def test_a_missing_base_is_told_before_any_hub_is_asked(started: Path) -> None:
    shutil.rmtree(started / "models" / "base")
    with pytest.raises(ValueError, match="Download the model and give the folder"):  # owner/model could be on the hub
        load(started / "run")
    with pytest.raises(ValueError, match="does not exist"):
        weights_hash("a/folder/base")


def test_a_run_takes_its_own_checkpoint_and_that_of_its_copy_alone(tmp_path: Path) -> None:
    run, copy, other = (begun(tmp_path / name, yaml.safe_dump({"run_dir": str(tmp_path / name)})) for name in "abc")
    other.begin(MODELS, "another loss")
    for saved, accepts in ((run, True), (copy, True), (other, False)):
        checkpoint: dict[str, Any] = {}
        saved.save(checkpoint)
        run.check(checkpoint, str(tmp_path / "other.ckpt"))  # another run may be judged, or begun with
        if accepts:
            run.check(checkpoint, str(tmp_path / "a/last.ckpt"))
            continue
        with pytest.raises(ValueError, match=r"last.ckpt and this run do not belong together: the hashes are run "):
            run.check(checkpoint, str(tmp_path / "a/last.ckpt"))


def test_a_checkpoint_outside_has_the_same_base_but_perhaps_another_reference(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.check({"identity": MODELS | {"reference": "0" * 64}}, str(tmp_path / "other.ckpt"))
    with pytest.raises(ValueError, match="hashes are base 000000000000 against bbbbbbbbbbbb"):
        run.check({"identity": MODELS | {"base": "0" * 64}}, str(tmp_path / "other.ckpt"))


def test_what_only_one_identity_names_is_not_compared() -> None:
    refuse_mismatch({"base": "b"}, {"reference": "e"}, "one", "other", "")


# --- what a checkpoint may hold -------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04garbage.", b"PK\x03\x04garbage"])
def test_a_file_that_is_no_checkpoint_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"last.ckpt is damaged \(.+\); restore it from a copy"):
        read_checkpoint(tmp_path / "last.ckpt")
    torch.save([1], tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"last.ckpt is damaged \(it holds list, not a dict\)"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_a_checkpoint_with_an_object_is_refused_and_the_object_is_not_made(started: Path, tmp_path: Path) -> None:
    last = started / "run/checkpoints/last.ckpt"
    torch.save(torch.load(last, weights_only=True) | {"callbacks": Touch(tmp_path / "touched")}, last)
    for read in (
        read_checkpoint,
        lambda _: load(started / "run"),
        lambda _: export(str(started / "run"), tmp_path / "e"),
    ):
        with pytest.raises(
            ValueError, match=r"last.ckpt holds objects that are neither tensors nor plain values \(.*mkdir"
        ):
            read(last)
    assert not (tmp_path / "touched").exists()
    torch.load(last, weights_only=False)
    assert (tmp_path / "touched").exists()  # the payload works
