"""What a run leaves: every experiment file runs, equal commands find equal things, options change what they name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from lit_prm.commands.experiment import config_files
from lit_prm.commands.lightning import LitCLI, run
from lit_prm.commands.main import main
from lit_prm.evaluation.rows import read_rows
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.storage.run_files import is_finished
from tests.fake_server import FakeServer
from tests.integration.conftest import BRIEF, REPOSITORY, Desk, callbacks, metrics, same_weights, summary, weights

NAMES = sorted(f.stem for f in (REPOSITORY / "experiments").glob("*.yaml") if f.stem != "base")
BETA = "--model.reward_model.init_args.beta"

FEW_COMPLETIONS = [f"--data.labeler.init_args.{o}" for o in ("completions=1", "max_new_tokens=4", "workers=1")]


# of experiments that differ in a number or in one option, one is run, and a few are parsed at the paper's scale; the
# others are slow tests
ALIKE = re.compile(
    "-(2resp|4resp|[257][05]inst|instbalanced|dedup|noref-infer|noref-train|equaltokens|soft|steplabels)$|^orm-bt-"
)
PARSED = re.compile("^(ce|dpo|ipvrm|orm|autopsv)-8resp$|-hard$")
RUN = [pytest.param(name, marks=pytest.mark.slow) if ALIKE.search(name) else name for name in NAMES]
PLANNED = [name if PARSED.search(name) else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("references")


@pytest.mark.parametrize("name", RUN)
def test_every_experiment_file_trains_and_is_judged(name: str, desk: Desk, references: Path) -> None:
    (desk.folder / ".cache").symlink_to(references)  # the first computes the log-probs of the reference for all
    file = REPOSITORY / "experiments" / f"{name}.yaml"
    completes = "MathShepherd" in file.read_text()
    run = desk.exp(name, *BRIEF, *(FEW_COMPLETIONS if completes else ()))
    found = summary(run)
    assert (found["name"], found["scale"], found["seed"], found["status"]) == (name, "tiny", 0, "FINISHED")
    assert "bon/test/acc@4" in found["metrics"]
    trained = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] > 0
    assert trained == ("train/loss" in found["metrics"]) == ("cost/total_flops" in found["metrics"])
    assert not trained or found["metrics"]["cost/total_flops"] > 0


def test_a_run_leaves_its_record(done: Path) -> None:
    sets = ("validation", "test", "weaker", "stronger")
    left = {p.relative_to(done).as_posix() for p in done.rglob("*") if p.is_file()}
    assert left == {
        ".lock", "config.yaml", "data.json", "identity.json", "summary.json", "checkpoints/last.ckpt",
        *(f"scores/{s}{of}.jsonl.gz" for s in sets for of in ("", "-problems")),
        *(f"figures/{s}.png" for s in sets),
    }  # fmt: skip
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in done.glob("figures/*"))
    found = summary(done)["metrics"].keys()
    assert {f"bon/{s}/acc@4" for s in sets} | {"policy/test/greedy", "policy/test/sampled/low"} <= found


def test_equal_commands_find_equal_metrics_and_weights(done: Path, desk: Desk) -> None:
    again = desk.exp("ce-8resp")
    assert metrics(again) == metrics(done)
    assert same_weights(again, done)


@pytest.mark.slow
def test_another_seed_finds_others(done: Path, desk: Desk) -> None:
    desk.exp("ce-8resp", "--seed", "1")
    other = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-1"
    assert metrics(other) != metrics(done)


def test_the_resolved_config_runs_again_to_the_same_metrics(done: Path, desk: Desk) -> None:
    config = done / "config.yaml"
    assert "${" not in config.read_text()
    main(["fit", "--config", str(config)])
    again = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"
    tested = re.compile("/(test|weaker|stronger)/")
    trained = {k: v for k, v in summary(done)["metrics"].items() if not tested.search(k)}
    assert summary(again)["metrics"] == trained
    assert same_weights(again, done)


def test_print_config_prints_a_file_that_runs(done: Path, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        desk.exp("ce-8resp", "--print_config")
    assert ended.value.code in (0, None)
    printed = desk.folder / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    main(["fit", "--config", str(printed)])
    assert same_weights(desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0", done)


def test_beta_on_the_command_line_changes_the_run_its_config_and_its_record(done: Path, desk: Desk) -> None:
    from mlflow import MlflowClient

    run = desk.exp("ce-8resp", BETA, "0.1", *BRIEF[:3], record=True)  # judged less than the other, trained alike
    assert summary(run)["metrics"]["train/loss"] != summary(done)["metrics"]["train/loss"]
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["reward_model"]["init_args"]["beta"] == 0.1
    assert yaml.safe_load((done / "config.yaml").read_text())["model"]["reward_model"]["init_args"]["beta"] == 2.0
    record = MlflowClient().get_run((run / "mlflow-run-id").read_text().strip())
    assert record.data.params["model.reward_model.init_args.beta"] == "0.1"
    assert record.info.status == "FINISHED"


def test_a_live_reference_finds_what_a_stored_one_does(done: Path, desk: Desk) -> None:
    live = {"class_path": "lit_prm.models.reference.Frozen", "init_args": {"model": "${base_model}"}}
    config = desk.config("live", {"model": {"reward_model": {"init_args": {"reference": live}}}})
    run = desk.exp("ce-8resp", config)
    found, expected = summary(run)["metrics"], summary(done)["metrics"]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert len(weights(run)) == len(weights(done))  # the reference is in no checkpoint


def test_a_policy_that_fills_the_store_is_judged_after_training(desk: Desk) -> None:
    """What is judged then has been computed before the first update, or nobody could."""
    run = desk.exp("ce-8resp", "--model.reference.init_args.from_policy=true", *BRIEF)
    assert "bon/test/acc@1" in summary(run)["metrics"]


def test_model_checkpoint_works_beside_last_checkpoint(desk: Desk) -> None:
    best = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"monitor": "bon/validation/acc@4", "mode": "max", "dirpath": "best", "filename": "best"},
    }
    desk.exp("ce-1resp", desk.config("best", callbacks("${run_dir}", 50, [best])), "--data.test={}")
    assert [p.name for p in (desk.folder / "best").iterdir()] == ["best.ckpt"]
    assert (desk.folder / "runs/tiny/ce-1resp/seed-0/checkpoints/last.ckpt").exists()


def test_another_logger_hears_what_mlflow_does(desk: Desk) -> None:
    ours = {
        "class_path": "lit_prm.storage.mlflow_logger.MLflow",
        "init_args": {"folder": "${run_dir}", "run_name": "${name}"},
    }
    second = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "${run_dir}"}}
    both = desk.config("loggers", {"trainer": {"logger": [ours, second]}})
    run = desk.exp("ce-8resp", both, *BRIEF, record=True)
    (file,) = run.rglob("metrics.csv")
    assert "train/loss" in file.read_text()
    assert (run / "mlflow-run-id").exists()


def test_a_fast_dev_run_leaves_nothing(desk: Desk) -> None:
    run = desk.exp("ce-1resp", "--trainer.fast_dev_run=true", "--trainer.limit_val_batches=0")
    assert not run.exists()


def test_the_untrained_policy_is_judged_where_nothing_was_trained(
    done: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the run may still be trained there."""
    main(["test", "--config", str(done / "config.yaml")])
    run = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"
    assert "no checkpoint in runs/tiny/ce-8resp/seed-0: evaluating the untrained policy" in capsys.readouterr().out
    assert summary(run)["status"] == "UNTRAINED"
    assert not is_finished(run, ["test"])


def test_no_progress_bar_drops_the_callback_that_draws_it(desk: Desk) -> None:
    run = desk.exp("ce-1resp", *BRIEF)
    assert "Progress" not in (run / "config.yaml").read_text()
    desk.exp("ce-1resp", *BRIEF[:-1])  # the same run, with or without a bar


class TestWithACheckpoint:
    def command(self, done: Path, *options: str) -> list[str]:
        ckpt = f"--ckpt_path={done / 'checkpoints' / 'last.ckpt'}"
        return ["--config", str(done / "config.yaml"), ckpt, *options]

    @pytest.fixture
    def copy(self, done: Path, desk: Desk) -> Path:
        run = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"
        shutil.copytree(done, run)
        return run

    def test_test_finds_what_the_run_found(self, done: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = read_rows(copy / "scores" / "test.jsonl.gz")
        shutil.rmtree(copy / "scores")
        main(["test", *self.command(done)])
        assert read_rows(copy / "scores" / "test.jsonl.gz") == before
        assert "test: accuracy of the chosen answer" in capsys.readouterr().out

    def test_validate_prints_its_table(self, done: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = read_rows(copy / "scores" / "validation.jsonl.gz")
        main(["validate", *self.command(done)])
        assert read_rows(copy / "scores" / "validation.jsonl.gz") == before
        assert "validation: accuracy of the chosen answer" in capsys.readouterr().out

    def test_the_folder_s_own_checkpoint_is_judged_unless_another_is_named(self, done: Path, copy: Path) -> None:
        before = read_rows(copy / "scores" / "test.jsonl.gz")
        shutil.rmtree(copy / "scores")
        main(["test", "--config", str(done / "config.yaml")])
        assert read_rows(copy / "scores" / "test.jsonl.gz") == before
        assert metrics(copy) == metrics(done)

    @pytest.mark.parametrize("command", ["test", "validate", "predict"])
    def test_results_of_a_trained_run_outlive_its_checkpoint(
        self, command: str, done: Path, copy: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The untrained policy would be judged in its place."""
        (copy / "checkpoints" / "last.ckpt").unlink()
        files = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
        with pytest.raises(SystemExit):
            main([command, "--config", str(done / "config.yaml")])
        assert "runs/tiny/ce-8resp/seed-0 has no checkpoint, but its run was trained" in capsys.readouterr().err
        assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == files

    def test_another_configuration_is_refused_in_this_folder(
        self, copy: Path, done: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(["test", *self.command(done, BETA, "1.0")])
        message = capsys.readouterr().err
        assert "model.reward_model.init_args.beta: 2.0 -> 1.0" in message
        assert "--ckpt_path runs/tiny/ce-8resp/seed-0/checkpoints/last.ckpt" in message

    def test_weights_of_another_model_are_refused(
        self, done: Path, desk: Desk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import torch

        torch.save(
            torch.load(done / "checkpoints" / "last.ckpt", weights_only=False) | {"state_dict": {}}, "other.ckpt"
        )
        with pytest.raises(SystemExit):
            main(["test", "--config", str(done / "config.yaml"), "--ckpt_path=other.ckpt"])
        assert "the checkpoint's weights are not those of this model" in capsys.readouterr().err

    def test_predict_leaves_the_same_rewards_and_says_where(
        self, done: Path, copy: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["predict", *self.command(done)])
        assert "predictions: runs/tiny/ce-8resp/seed-0/predictions/test.jsonl.gz" in capsys.readouterr().out
        judged = read_rows(copy / "scores" / "test.jsonl.gz")
        predicted = read_rows(copy / "predictions" / "test.jsonl.gz")
        for row, was in zip(predicted, judged, strict=True):
            assert (row["problem"], row["response"], row["reward"]) == (was["problem"], was["response"], was["reward"])
            assert row["step_rewards"] == [s for s in was["step_rewards"] if s is not None]
            assert {k: row["scores"][k] for k in ("min", "sum", "mean")} == {
                k: was["scores"][k] for k in ("min", "sum", "mean")
            }

    def test_the_command_line_beats_the_checkpoint(self, done: Path, desk: Desk) -> None:
        """Rewards are beta times log-ratios: half the beta gives half the rewards of the same weights."""
        main(["predict", *self.command(done, BETA, "1.0")])
        new = desk.folder / "runs" / "tiny" / "ce-8resp" / "seed-0"
        rewards = [row["reward"] for row in read_rows(new / "predictions" / "test.jsonl.gz")]
        at_two = [row["reward"] for row in read_rows(done / "scores" / "test.jsonl.gz")]
        assert max(map(abs, at_two)) > 0.1
        assert rewards == pytest.approx([r / 2 for r in at_two], abs=2e-5)


def test_what_sample_wrote_is_training_data(desk: Desk) -> None:
    file, out = desk.folder / "problems.jsonl", desk.folder / "rollouts.jsonl.gz"
    rows = [{"problem": f"What is {i} + {2 * i}?", "answer": str(3 * i)} for i in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with FakeServer() as server:
        main(["sample", "fake", str(file), "--server", server.url, "--n", "8", "--out", str(out)])
    run = desk.exp("ce-8resp", f"--data.train={out}", *BRIEF)
    assert summary(run)["status"] == "FINISHED"


@pytest.mark.parametrize("name", PLANNED)
def test_every_experiment_is_one_at_the_papers_scale(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed as it is and built up to the weights; only a trainer for eight GPUs cannot be built here."""
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LitCLI, "fit", lambda *_, **__: None)
    files = [option for file in config_files(name, "paper-8b") for option in ("--config", str(file))]
    here = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto", "--trainer.logger=false"]
    cli = run("fit", [*files, f"--name={name}", *here, "--trainer.precision=32-true"])
    assert cli.config.run_dir == f"runs/paper-8b/{name}/seed-0"
    assert (cli.datamodule.batch_size, cli.datamodule.max_length) == (64, 8192)
    model = cli.model.reward_model
    assert getattr(model, "policy_name", None) == "meta-llama/Llama-3.1-8B-Instruct"
    if isinstance(model, ImplicitReward):
        assert model.beta == (10.0 if name.startswith("ipvrm") else 0.05)
    assert cli.config.model.optimizer.init_args.lr == 5e-7
    plain = yaml.safe_load((REPOSITORY / "experiments" / "scale" / "paper-8b.yaml").read_text())["trainer"]
    assert (plain["devices"], plain["strategy"]["init_args"]["stage"]) == (8, 3)


def test_prompts_run_once_change_nothing_found(done: Path, desk: Desk) -> None:
    run = desk.exp("ce-8resp", "--data.share_prompts=false")
    assert summary(run)["metrics"] == pytest.approx(summary(done)["metrics"], rel=1e-3, abs=1e-4)
