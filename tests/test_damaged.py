"""Every command refuses a damaged file in one line that names it, with status 2, and changes nothing in its folder."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from lightning import seed_everything

from lit_prm.commands.main import is_mistake, main
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.models.reference.store import LogpStore
from lit_prm.models.weights import weights_of
from lit_prm.scoring.building import present_identity
from lit_prm.scoring.export.command import export
from lit_prm.scoring.run_spec import spec_of_run
from lit_prm.storage.checkpoint_files import read_checkpoint
from lit_prm.storage.identity import identity_in
from lit_prm.storage.mlflow_store import clear_error
from lit_prm.storage.run_folder import last_checkpoint, refuse_mixing
from tests import damages
from tests.damages import Damage, replaced
from tests.test_export import run_folder, trained

RIGHT, WRONG = Rollout(response="One.\n\nTwo.", correct=True), Rollout(response="Three.", correct=False)
GROUPS = [Group(problem=Problem(prompt="1 + 1?", id="p"), rollouts=(RIGHT, WRONG))]


@pytest.fixture(scope="module")
def house(policy_folder: Path, reference_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`run`, its `export`, a plain `model` with its reference, `rollouts.jsonl` and `scored.jsonl`, made once."""
    folder = tmp_path_factory.mktemp("house")
    model = trained("ImplicitReward", policy_folder, reference_folder)
    run = run_folder(folder / "run", "ImplicitReward", policy_folder, reference_folder, model)
    identity = {"run": "0" * 64, **present_identity(spec_of_run(run))}
    (run / "identity.json").write_text(json.dumps(identity))
    last = run / "checkpoints" / "last.ckpt"
    torch.save(torch.load(last, weights_only=True) | {"identity": identity}, last)
    export(str(run), folder / "export")
    shutil.copytree(policy_folder, folder / "model")
    write_groups(folder / "rollouts.jsonl", GROUPS)
    main(["score", str(folder / "export"), str(folder / "rollouts.jsonl"), "--out", str(folder / "scored.jsonl")])
    item = {"problem": "1 + 1?", "steps": ["One.", "Two."], "final_answer_correct": True}
    rows = [item | {"id": "a", "label": -1}, item | {"id": "b", "label": 1}]
    (folder / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield folder


SCORE = ("{0}/rollouts.jsonl", "--out", "{0}/out.jsonl")
BENCH = ("--data", "{0}", "--subsets", "bench", "--choose", "bench", "--out", "{0}/bench")
COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, Damage]]] = {  # damaged file -> command that reads it, damages
    "run/config.yaml": (("score", "{0}/run", *SCORE), damages.CONFIG),
    "run/identity.json": (("score", "{0}/run", *SCORE), damages.BROKEN),
    "run/checkpoints/last.ckpt": (("score", "{0}/run", *SCORE), damages.CHECKPOINT),
    "run/summary.json": (("export", "{0}/run", "{0}/again"), damages.SUMMARY),
    "run/data.json": (("export", "{0}/run", "{0}/again"), damages.BROKEN | {"text": replaced(digests="x")}),
    "export/reward.json": (("score", "{0}/export", *SCORE), damages.REWARD),
    "export/check.json": (("score", "{0}/export", *SCORE), damages.CHECK),
    "scored.jsonl": (("bon", "{0}/scored.jsonl"), damages.SCORED),
}
OF_MODEL = ("score", "{0}/model", *SCORE, "--reference", "{0}/model")
CASES = [(file, what, damage, command) for file, (command, of) in COMMANDS.items() for what, damage in of.items()]
CASES += [(f"model/{file}", what, damage, OF_MODEL) for what, (file, damage) in damages.MODEL.items()]
CASES += [("model/model.safetensors", what, damage, OF_MODEL) for what, damage in damages.WEIGHTS.items()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize(("name", "what", "damage", "command"), CASES, ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_a_damaged_file_is_refused_in_one_line(
    name: str, what: str, damage: Damage, command: Sequence[str], house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = house / name
    whole = file.read_bytes()
    try:
        file.write_bytes(damage(whole))
        before = files_of(house)
        names = [str(file), *([str(file.parent)] if file.parent.name in ("export", "model") else [])]
        refused_in_one_line([word.format(house) for word in command], capsys, names)
        assert files_of(house) == before
    finally:
        file.write_bytes(whole)


def refused_in_one_line(command: Sequence[str], capsys: pytest.CaptureFixture[str], names: Sequence[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(command)
    told = capsys.readouterr().err.removesuffix("(LIT_PRM_TRACEBACK=1 shows where)\n").splitlines()
    assert ended.value.code == 2
    assert len(told) == 1
    assert told[0].startswith("error: ")
    assert any(name in told[0] for name in names)
    assert len(told[0]) < 900
    return told[0]


@pytest.fixture
def payload(house: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folders hold a module, in which Python looks for modules first, and files that name it."""
    own = [house / folder / f"{damages.OWN}.py" for folder in ("run", "export", "model")]
    for file in own:
        file.write_text(damages.PAYLOAD)
    others = [house / "export/reference.yaml", house / "export/head.bin"]
    others[0].write_text(yaml.safe_dump(damages.path("Source")))
    torch.save({"state_dict": damages.TOUCH}, others[1])
    monkeypatch.chdir(house / "export")
    monkeypatch.syspath_prepend(house / "export")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    yield
    sys.modules.pop(damages.OWN, None)
    for file in (*own, *others):
        file.unlink()


BY_RUN = (("score", "{0}/run", *SCORE), ("export", "{0}/run", "{0}/again"), ("processbench", "{0}/run", *BENCH))
BY_EXPORT = (("score", "{0}/export", *SCORE), ("processbench", "{0}/export", *BENCH))
BY_MODEL = (OF_MODEL, ("processbench", "{0}/model", *BENCH, "--reference", "{0}/model"))
Hostile = tuple[str, str, tuple[Damage, str], Sequence[Sequence[str]]]
HOSTILE: list[Hostile] = [("export/reward.json", *of, BY_EXPORT) for of in damages.OF_EXPORT.items()]
HOSTILE += [("run/config.yaml", *of, BY_RUN) for of in damages.OF_RUN.items()]
HOSTILE += [("run/checkpoints/last.ckpt", *of, BY_RUN) for of in damages.OF_CHECKPOINT.items()]
HOSTILE += [
    (f"model/{file}", what, (change, told), BY_MODEL) for what, (file, change, told) in damages.OF_MODEL.items()
]


@pytest.mark.parametrize(("name", "what", "damage", "commands"), HOSTILE, ids=[f"{c[0]}: {c[1]}" for c in HOSTILE])
@pytest.mark.usefixtures("payload")
def test_no_command_runs_what_a_folder_holds(
    name: str, what: str, damage: tuple[Damage, str], commands: Sequence[Sequence[str]], house: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file, (change, told) = house / name, damage
    whole = file.read_bytes()
    try:
        file.write_bytes(change(whole))
        before = files_of(house)
        for command in commands:
            assert told in refused_in_one_line([word.format(house) for word in command], capsys, [str(house)])
        assert files_of(house) == before
        assert not list(house.rglob("touched"))
    finally:
        file.write_bytes(whole)


def what_a_run_reads_to_go_on(run: Path, config: str) -> None:
    refuse_mixing(run, lambda: config)
    last = str(last_checkpoint(run))
    weights_of(last)
    identity_in(read_checkpoint(last), last)


TO_GO_ON = {"config.yaml": damages.CONFIG, "checkpoints/last.ckpt": damages.CHECKPOINT}


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, of in TO_GO_ON.items() for what in of])
def test_a_run_does_not_go_on_from_a_damaged_file(name: str, what: str, house: Path) -> None:
    """Values of options are compared with those of now; the content of a checkpoint is read where it is loaded."""
    file, config = house / "run" / name, (house / "run/config.yaml").read_text()
    whole = file.read_bytes()
    try:
        file.write_bytes(TO_GO_ON[name][what](whole))
        other = "|holds a run with another configuration" if name == "config.yaml" else ""
        with pytest.raises(ValueError, match=rf"{file} is damaged{other}") as refused:
            what_a_run_reads_to_go_on(house / "run", config)
        assert is_mistake(refused.value)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("command", [["exp", "base-0resp"], ["bon", "f"], ["processbench", "f"], ["sample", "m", "f"]])
@pytest.mark.parametrize("seed", ["-1", "4294967296", "one"])
def test_a_seed_that_is_none_is_refused_by_the_parser(
    command: Sequence[str], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--seed", seed])
    assert ended.value.code == 2
    assert f"argument --seed: {'invalid' if seed == 'one' else seed}" in capsys.readouterr().err.splitlines()[-1]


def test_a_seed_of_fit_that_is_none_is_a_mistake_of_the_user() -> None:
    with pytest.raises(ValueError, match="-1 is not in bounds") as refused:
        seed_everything(-1)
    assert is_mistake(refused.value)


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root user may write any file, so SQLite is told to open it for reading."""
    store, connect = str(tmp_path / "store.sqlite"), sqlite3.connect
    entry = [(b"a", np.ones(3, np.float32))]
    made = LogpStore(store)
    made.write(entry)
    cast(sqlite3.Connection, made._connection).close()  # which writes the log into the file
    whole = Path(store).read_bytes()
    monkeypatch.setattr(sqlite3, "connect", lambda file, **how: connect(f"file:{file}?mode=ro", uri=True, **how))
    with pytest.raises(
        ValueError, match=rf"^{store}: attempt to write a readonly database\. Set model.reference's path"
    ):
        LogpStore(store).write([(b"b", np.ones(3, np.float32))])
    assert Path(store).read_bytes() == whole
    monkeypatch.setattr(sqlite3, "connect", refused := Mock(side_effect=PermissionError(13, "denied", store)))
    with pytest.raises(ValueError, match=rf"^{store}: .*denied.*\. Set model.reference's path"):
        LogpStore(store).size()
    told = "store sqlite:///x cannot be used: .*denied.* Or train without"
    with pytest.raises(RuntimeError, match=told), clear_error("sqlite:///x", "Or train without."):
        refused()
