"""Every mistake a user can make gives one message and status 2, before any training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from filelock import FileLock

from lit_prm.commands.main import main
from lit_prm.models.reference import Stored
from lit_prm.training.module import LitPRM
from tests.integration.conftest import Desk

Refused = Callable[..., str]


@pytest.fixture
def refused(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The message that a command ends with."""

    def trained(*_: Any) -> NoReturn:
        pytest.fail("trained before the mistake was told")

    monkeypatch.setattr(LitPRM, "training_step", trained)
    monkeypatch.delenv("LIT_PRM_TRACEBACK", raising=False)

    def run(*args: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.endswith("(LIT_PRM_TRACEBACK=1 shows where)\n")
        assert "Traceback" not in message
        assert "usage:" not in message or args[0] == "fits"
        return message

    return run


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["exp", "ce-9resp"], ["unknown NAME 'ce-9resp'; did you mean ce-", "ce-1resp", "python -m lit_prm list\n("]),
        (["exp", ""], ["unknown NAME ''", "ce-1resp"]),
        (["exp", "ce-1resp", "--scale", "huge"], ["unknown SCALE 'huge'", "tiny", "smol"]),
        (["fits"], ["There is no command 'fits'. Did you mean fit?"]),
        (["fit", "--config", "none.yaml"], ["none.yaml"]),
        (["fit"], ["model.loss", "required"]),
    ],
)
def test_unknown_names_list_the_known(args: list[str], expected: list[str], refused: Refused) -> None:
    message = refused(*args)
    assert all(part in message for part in expected), message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model.reward_model.init_args.betta", "1"], ["betta", "not accepted", "ImplicitReward"]),
        (["--model.reward_modle.init_args.beta", "1"], ["--model.reward_modle.init_args.beta"]),
        (["--data.respons", "1"], ["--data.respons", "did you mean --data.responses?"]),
        (["--nothing.of.ours=1"], ["--nothing.of.ours", "python -m lit_prm fit --help lists all"]),
        (["--trainer.accelerator=gpu"], ["trainer.accelerator is gpu (scale tiny)", "sees no GPU here. Install"]),
        (["--base_model", "my-base"], ["Model folder 'my-base' does not exist. Give a folder"]),
        (["--model.reward_model.init_args.beta", "abc"], ["beta", "float", "abc"]),
        (["--model.reward_model.init_args.beta", "-1"], ["beta -1.0 is not positive"]),
        (["--model.reward_model.init_args.beta", ".nan"], ["beta nan is not positive"]),
        (["--data.batch_size", "0"], ["data.batch_size 0 is not at least 1"]),
        (["--trainer.max_epochs", "-1"], ["trainer.max_epochs -1 has no end", "at least 1"]),
        (["--trainer.default_root_dir", "runs/b"], ["trainer.default_root_dir is runs/b, outside run_dir runs/tiny"]),
        (["--model.loss", "Nope"], ["model.loss", "Nope", "known: BiasedNCA, CE, DPO"]),
        (["--data.steps", "Nope"], ["data.steps", "Nope", "Newline", "BlankLine"]),
        (["--base_model", "${nope.x}/y"], ["'nope.x' not found", "model.reward_model.init_args.policy"]),
        (["--base_model", "./nowhere"], ["Model folder './nowhere' does not exist"]),
        (["--data.train", "rollouts/none.jsonl"], ["rollouts/none.jsonl: no such file", "data.root"]),
        (["--data.responses", "9"], ["fewer than 9 responses", "Set data.responses to 8"]),
        (["--data.train", "candidates/test.jsonl"], ["test", "data.shared_problems"]),
        (
            ["--model.reward_model.init_args.attention=flash_attention_4"],
            ["attention 'flash_attention_4' cannot be used"],
        ),
        (["--model.reward_model.init_args.attention=nope"], ["attention 'nope' cannot be used", "auto, packed, sdpa"]),
        (
            [
                "--model.reward_model=lit_prm.models.adapters.LoRAReward",
                "--model.reward_model.init_args.targets=[foo_proj]",
            ],
            ["targets ['foo_proj'] cannot be adapted", "are down_proj, gate_proj,"],
        ),
        (["--trainer.strategy=nope"], ["invalid strategy name", "nope"]),
        (["--trainer.strategy=fsdp", "--trainer.accelerator=cpu"], ["strategy `fsdp` requires a GPU"]),
        (["--trainer.strategy=deepspeed_stage_2"], ["lit_prm.training.zero.ZeRO --trainer.strategy.init_args.stage N"]),
        (
            ["--trainer.strategy", '{"class_path": "lightning.pytorch.strategies.DeepSpeedStrategy"}'],
            ["lit_prm.training.zero.ZeRO --trainer.strategy.init_args.stage N"],
        ),
        (
            ["--trainer.strategy=lit_prm.training.zero.ZeRO", "--trainer.strategy.stage=4"],
            ["error: stage 4 is not 1, 2 or 3, the stages of ZeRO. To shard nothing, use trainer.strategy ddp.\n("],
        ),
    ],
)
def test_wrong_options_are_named(options: list[str], expected: list[str], refused: Refused, desk: Desk) -> None:
    message = refused("exp", "ce-8resp", *desk.options(*options))
    assert all(part in message for part in expected), message


def test_a_truncated_line_is_named_with_its_file_and_number(refused: Refused, desk: Desk, micro_world: Path) -> None:
    cut = desk.folder / "cut.jsonl"
    cut.write_bytes((micro_world / "rollouts" / "train.jsonl").read_bytes()[:-40])
    lines = cut.read_bytes().count(b"\n") + 1
    message = refused("exp", "ce-8resp", *desk.options("--data.train", str(cut)))
    assert f"cut.jsonl:{lines}" in message
    assert "looks cut" in message


def test_a_resolved_config_in_another_folder_is_refused(
    refused: Refused, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its callbacks' folders are those of the first run."""
    with pytest.raises(SystemExit):
        main(["exp", "ce-8resp", *desk.options("--print_config")])
    (desk.folder / "printed.yaml").write_text(capsys.readouterr().out)
    message = refused("fit", "--config=printed.yaml", "--run_dir=runs/b", "--trainer.default_root_dir=runs/b")
    assert "folder of callbacks.BestOfN is runs/tiny/ce-8resp/seed-0, outside run_dir runs/b" in message
    assert not (desk.folder / "runs").exists()


def test_a_run_another_process_works_on_is_refused(refused: Refused, desk: Desk) -> None:
    run = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"
    run.mkdir(parents=True)
    with FileLock(run / ".lock"):
        message = refused("exp", "ce-8resp", *desk.options())
    assert "another process works on this run (runs/tiny/ce-8resp/seed-0)" in message


def test_a_damaged_checkpoint_is_named(refused: Refused, desk: Desk) -> None:
    last = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save({"state_dict": {"weight": torch.zeros(1000)}}, last)
    last.write_bytes(last.read_bytes()[:-200])
    message = refused("exp", "ce-8resp", *desk.options())
    assert "seed-0/checkpoints/last.ckpt is damaged" in message
    assert "remove it" in message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("summary.json", "", "remove it"),
        ("summary.json", "[1]", "not [1]); remove it"),
        ("config.yaml", "a: [", "put it back"),
        ("config.yaml", "", "put it back"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(name: str, content: str, told: str, refused: Refused, desk: Desk) -> None:
    run = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"
    (run / "checkpoints").mkdir(parents=True)
    torch.save({}, run / "checkpoints" / "last.ckpt")
    (run / name).write_text(content)
    message = refused("exp", "ce-8resp", *desk.options())
    assert f"seed-0/{name} is damaged (" in message
    assert told in message


def test_prompts_that_cannot_be_shared_are_told_before_the_reference_is_asked(
    refused: Refused, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stored, "prepare", lambda *_: pytest.fail("asked the reference"))
    of_model = [
        "--model.reward_model.init_args.gradient_checkpointing=true",
        "--model.reward_model.init_args.attention=sdpa",
    ]
    message = refused("exp", "ce-8resp", *desk.options("--data.share_prompts=true", *of_model))
    assert "LlamaForCausalLM cannot share prompts: gradient checkpointing keeps no keys" in message


def test_a_place_without_experiments_is_told(
    refused: Refused, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    for command in (["exp", "ce-8resp"], ["list"]):
        assert f"no experiments/ folder in {elsewhere}" in refused(*command)


def test_a_traceback_is_there_for_who_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_PRM_TRACEBACK", "1")
    with pytest.raises(ValueError, match="unknown NAME"):
        main(["exp", "ce-9resp"])
