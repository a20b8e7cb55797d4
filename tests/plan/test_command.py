"""`lit_prm plan`: every scale, its refusals, its page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lit_prm.commands.main import main
from lit_prm.commands.plan.command import devices
from lit_prm.commands.plan.network import config_of
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.models.flops import Work, forward, shape_of
from tests.plan.planning import LLAMA, planned

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "strategy", "fits"),
    [("1xh100", "one device", True), ("8xh100", "ZeRO-2", True), ("paper-8b", "ZeRO-3", True)],
)
def test_scales_for_gpus_fit(scale: str, strategy: str, fits: bool) -> None:
    found = planned("ce-8resp", scale)
    assert found.numbers["strategy"] == strategy
    assert found.numbers["fits"] is fits
    assert "fits" in found.verdict


@pytest.mark.slow
def test_70b_fits_two_nodes_of_80_gb_with_its_optimizer_on_the_host_only() -> None:
    found = planned("ce-8resp", "paper-70b")
    assert found.numbers["fits"]
    assert found.numbers["longest_micro_batch_tokens"] == 2 * 8 * 1536  # some of 17 problems for 16 devices
    assert found.numbers["memory"]["ZeRO-3"]["total"] > found.numbers["available"]
    assert found.memory.on_host * 8 < 600e9


@pytest.mark.slow
def test_the_parts_add_up_and_alternatives_share_what_they_share() -> None:
    found = planned("ce-8resp", "8xh100")
    assert found.memory.total == sum(found.memory.parts.values())
    sizes = {
        name: m.parts["weights"] + m.parts["gradients"] + m.parts["optimizer"] for name, m in found.alternatives.items()
    }
    assert sizes["DDP"] > sizes["ZeRO-1"] > sizes["ZeRO-2"] > sizes["ZeRO-3"]


def test_training_flops_are_those_that_costs_counts() -> None:
    """The example by hand of docs/costs.md: a prompt of 150 and a response of 450 tokens, Llama-3.1-8B."""
    found = planned("ce-8resp", "1xh100", LLAMA, problems=10)
    assert found.numbers["flops"]["training"] / 80 == pytest.approx(2.683e13, rel=1e-3)
    assert found.numbers["flops"]["reference"] / 80 == pytest.approx(8.943e12, rel=1e-3)
    total = found.numbers["flops"]["total"]
    assert found.numbers["hours"] == pytest.approx(total / (989e12 * 0.4 * 3600))


def test_a_loss_that_reads_each_response_behind_another_prompt_stores_and_reads_it_twice() -> None:
    once, twice = (planned(name, "1xh100", LLAMA, problems=10).numbers for name in ("ce-8resp", "kto-8resp"))
    assert twice["store_bytes"] == 2 * once["store_bytes"] > 0
    assert twice["flops"]["reference"] == 2 * once["flops"]["reference"]


def test_shared_prompts_are_planned_once() -> None:
    """8 responses of 450 tokens behind a prompt of 150: 3,750 of 4,800 tokens a problem."""
    whole, shared = (
        planned("ce-8resp", "1xh100", LLAMA, f"--data.share_prompts={s}").numbers for s in ("false", "true")
    )
    shape = shape_of(config_of("meta-llama/Llama-3.1-8B-Instruct")[0])
    saved = 33_000 * 7 * 3 * forward(shape, Work.read([150], 0))
    assert whole["flops"]["training"] - shared["flops"]["training"] == saved
    assert shared["flops"]["reference"] == whole["flops"]["reference"]  # the store reads every response with its prompt
    assert whole["longest_micro_batch_tokens"] - shared["longest_micro_batch_tokens"] == 7 * 150


def test_what_is_not_trained_on_is_not_planned() -> None:
    whole, quarter = (planned(name, "1xh100", LLAMA).numbers for name in ("ce-8resp", "ce-8resp-25inst"))
    assert (whole["responses"], quarter["responses"]) == (264_000, 66_000)
    assert quarter["flops"]["total"] == pytest.approx(whole["flops"]["total"] / 4)
    short = planned("ce-8resp", "1xh100", LLAMA, "--trainer.max_steps=10").numbers
    assert short["updates"] == 10
    assert short["flops"]["training"] == pytest.approx(whole["flops"]["training"] * 10 / whole["updates"])
    alone = planned("ce-8resp", "1xh100", LLAMA, "--trainer.max_steps=10", "--trainer.max_epochs=-1").numbers
    assert alone == short
    assert short["flops"]["reference"] == whole["flops"]["reference"]  # the store is filled with all


def test_problems_are_counted_though_their_tokenizer_is_not_here(tmp_path: Path) -> None:
    answers = tuple(Rollout(response=text, correct=text == "a") for text in "ab")
    every = [Group(problem=Problem(id=str(n), prompt=f"What is {n}?"), rollouts=answers) for n in range(128)]
    write_groups(tmp_path / "train.jsonl", every)
    place = [f"--data.train={tmp_path / 'train.jsonl'}", "--data.tokenizer=nobody/has-this", "--data.responses=2"]
    found = planned("ce-8resp", "1xh100", LLAMA, *place).numbers
    assert found["responses"] == 256
    assert "the tokenizer of nobody/has-this is not here" in found["lengths_from"]


def test_labelling_is_said_to_be_left_out() -> None:
    for name, told in (("shepherd-8resp-soft", True), ("ce-8resp", False)):
        assert ("labelling of steps left out" in planned(name, "1xh100", LLAMA).facts["time"]) is told


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--trainer.strategy=fsdp"], "the memory of trainer.strategy fsdp is unknown"),
        (["--trainer.devices=4"], "has 8 problems, too few for 8 micro-batches x 4 devices"),
        (["--trainer.devices=auto"], "trainer.devices is 'auto'"),
        (["--mfu=2"], "--mfu 2.0 is not a share"),
        (["--trainer.strategy=deepspeed_stage_2"], "--trainer.strategy lit_prm.training.zero.ZeRO"),
        (["--memory=inf"], "--memory inf is not positive and finite"),
        (["--trainer.devices=-1"], "trainer.devices is '-1', but a plan needs a number above 0"),
        (["--data.batch_size=0"], "data.batch_size is 0, but a plan needs a number above 0"),
        ([f"--shape={REPOSITORY / 'README.md'}"], "README.md is not a config.json"),
        (["--problems=3"], "devices; there must be more problems"),
        (["--problems=-1"], "--problems -1 is not positive and finite"),
        (["--problems=0"], "--problems 0 is not positive and finite"),
        (["--memory=-5"], "--memory -5 is not positive and finite"),
        (["--peak=nan"], "--peak nan is not positive and finite"),
        (["--shape=./none"], r"--shape"),
        (["--model.optimizer=callbacks.Costs"], "optimizer"),
        (["--trainer.max_epochs=0"], "trains nothing"),
        (["--trainer.max_steps=0"], "trains nothing (trainer.max_steps 0)"),
        (["--trainer.max_epochs=-1"], "trainer.max_epochs is -1"),
        (["--data.fraction=5"], "data.fraction 5.0 is not a share"),
    ],
)
def test_what_cannot_be_planned_is_refused(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "ce-8resp", "--scale", "1xh100", *args])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_wrong_name_is_told_before_torch_is_loaded() -> None:
    code = "import sys; from lit_prm.commands.plan.command import main\ntry: main(['ce-8resp', '--scale', 'huge'])\n"
    code += "except ValueError as error: print(error, 'torch' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert "unknown SCALE 'huge'" in told
    assert told.rstrip().endswith("False")


def test_the_page_and_the_json_say_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    asked = ["ce-8resp", "--scale", "1xh100", LLAMA, "--problems", "10", "--memory", "1000"]
    main(["plan", *asked])
    page = capsys.readouterr().out
    main(["plan", *asked, "--json"])
    numbers = json.loads(capsys.readouterr().out)
    total = numbers["memory"]["one device"]["total"]
    assert f"{total / 1e9:.1f} of 1000.0 GB" in page
    assert page.count("█") > 10
    assert "8,030,261,248" in page


def test_every_device_has_what_a_plan_needs() -> None:
    assert all(found.keys() == {"memory", "bf16", "32"} for found in devices().values())


def test_what_does_not_fit_ends_with_a_status_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["ce-8resp", "--scale", "1xh100", LLAMA, "--problems", "10", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["plan", *asked, "--memory", "1"])
    assert ended.value.code == 1
    assert not json.loads(capsys.readouterr().out)["fits"]
    main(["plan", *asked, "--memory", "10000"])
    assert json.loads(capsys.readouterr().out)["fits"]
