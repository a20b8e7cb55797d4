"""Experiment files, scales and the environment say each thing once, and agree."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_prm.commands import experiment
from lit_prm.commands.lightning import Tuned, resolved_config
from lit_prm.storage.run_files import flatten

REPOSITORY = Path(__file__).parents[1]
EXPERIMENTS = REPOSITORY / "experiments"


def keys(file: Path) -> set[str]:
    return set(flatten(yaml.safe_load(file.read_text())))


def stems(folder: Path) -> list[str]:
    return sorted(f.stem for f in folder.glob("*.yaml") if f.stem != "base")


@pytest.mark.parametrize("scale", stems(EXPERIMENTS / "scale"))
@pytest.mark.parametrize("name", stems(EXPERIMENTS))
def test_scales_and_experiments_set_different_keys(name: str, scale: str) -> None:
    """So the order of the files cannot matter: neither sets a key of the other, nor a key below or above one."""
    ours, theirs = keys(EXPERIMENTS / f"{name}.yaml"), keys(EXPERIMENTS / "scale" / f"{scale}.yaml")
    clashes = [(a, b) for a in ours for b in theirs if a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.")]
    assert clashes == []


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_file_opens_with_what_it_is_for(file: Path) -> None:
    assert re.match(r"# \S.{20,}", file.read_text())


@pytest.mark.parametrize("scale", stems(EXPERIMENTS / "scale"))
def test_a_scale_file_names_itself(scale: str) -> None:
    assert yaml.safe_load((EXPERIMENTS / "scale" / f"{scale}.yaml").read_text())["scale"] == scale


@pytest.mark.slow
@pytest.mark.parametrize("scale", stems(EXPERIMENTS / "scale"))
def test_every_kind_of_experiment_is_one_at_every_scale(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser takes them, and what a scale says of the reward model holds for each kind of it."""
    monkeypatch.chdir(REPOSITORY)
    says = yaml.safe_load((EXPERIMENTS / "scale" / f"{scale}.yaml").read_text()).get("model", {})
    for name in ("ce-8resp", "orm-8resp", "shepherd-8resp-soft", "dpo-8resp-noref", "ipvrm-8resp"):
        found = flatten(yaml.safe_load(resolved_config(experiment.options(name, scale, 0, [])))["model"])
        assert {key: found.get(key) for key in flatten(says)} == flatten(says), name


def test_files_are_base_then_scale_then_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    files = [str(f) for f in experiment.config_files("ce-1resp", "tiny")]
    assert files == ["experiments/base.yaml", "experiments/scale/tiny.yaml", "experiments/ce-1resp.yaml"]


@pytest.mark.parametrize(
    ("name", "scale", "expected"), [("base", "tiny", "NAME 'base'"), ("ce-1resp", "x", "SCALE 'x'")]
)
def test_unknown_names_list_every_known_one(
    name: str, scale: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(ValueError, match=f"unknown {expected}") as refused:
        experiment.config_files(name, scale)
    folder = EXPERIMENTS / "scale" if "SCALE" in expected else EXPERIMENTS
    assert re.findall(r"^  (\S+)", str(refused.value), re.MULTILINE) == stems(folder)


def test_list_shows_every_experiment_and_its_purpose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    experiment.show_available()
    shown = capsys.readouterr().out
    assert all(stem in shown for stem in (*stems(EXPERIMENTS), *stems(EXPERIMENTS / "scale")))
    assert "ONE labelled response per problem" in shown


def test_options_become_configs_facts_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overrides come last, so they win."""
    monkeypatch.chdir(REPOSITORY)
    seen: list[str] = []
    monkeypatch.setattr(experiment, "run_experiment", seen.extend)
    experiment.main(["dpo-8resp", "--seed", "3", "--data.responses", "4", "--scale", "smol"])
    assert seen[1::2][:3] == ["experiments/base.yaml", "experiments/scale/smol.yaml", "experiments/dpo-8resp.yaml"]
    assert seen[6:] == ["--name=dpo-8resp", "--scale=smol", "--seed_everything=3", "--data.responses", "4"]


def test_settings_of_an_objective_are_those_of_the_longest_key_and_overrides_win(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    for name, settings in {"dpo-2resp": {"beta": 0.5}, "orm-8resp": {"head_lr": 2e-3}, "ce-8resp": {}}.items():
        assert experiment.tuned(name, "tiny") == [f"--tuned.{key}={value}" for key, value in settings.items()]
    assert experiment.tuned("orm-bt-8resp", "tiny") == ["--tuned.head_lr=0.003"]
    assert experiment.tuned("dpo-2resp", "paper-8b") == []
    found = yaml.safe_load(resolved_config(experiment.options("dpo-2resp", "tiny", 0, ["--tuned.beta=0.25"])))
    assert found["model"]["reward_model"]["init_args"]["beta"] == 0.25
    found = yaml.safe_load(resolved_config(experiment.options("dpo-2resp", "tiny", 0, [])))
    assert found["model"]["reward_model"]["init_args"]["beta"] == 0.5


@pytest.mark.parametrize("scale", stems(EXPERIMENTS / "tuned"))
def test_every_setting_of_an_objective_is_one_of_some_experiment(scale: str) -> None:
    assert scale in stems(EXPERIMENTS / "scale")
    settings = yaml.safe_load((EXPERIMENTS / "tuned" / f"{scale}.yaml").read_text())
    assert {key for of in settings.values() for key in of} <= {field.name for field in fields(Tuned)}
    assert all(any(name.startswith(key) for name in stems(EXPERIMENTS)) for key in settings)


def test_the_conda_environment_says_what_pyproject_says() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    python = next(d for d in environment["dependencies"] if str(d).startswith("python"))
    minor = int(python.split("=")[1].split(".")[1])
    lowest, below = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups())  # type: ignore[union-attr]
    assert lowest <= minor < below
    pip: list[Any] = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert {str(d).split("=")[0] for d in environment["dependencies"] if not isinstance(d, dict)} == {"python", "pip"}
    extras = re.fullmatch(r"-e \.\[(.+)\]", next(p for p in pip if p.startswith("-e")))
    assert extras is not None
    assert set(extras[1].split(",")) <= project["optional-dependencies"].keys()
    constraints = next(p.split()[1] for p in pip if p.startswith("--constraint"))
    assert (REPOSITORY / constraints).exists()


# --- stages ----------------------------------------------------------------------------------------


def test_an_experiment_runs_after_the_one_its_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same overrides but for the folder; what is finished is not run again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    seen: list[list[str]] = []
    monkeypatch.setattr(experiment, "run_experiment", lambda options: seen.append(list(options)))
    args = ["dpo-8resp-noref", "--seed", "2", "--data.fraction=0.5", "--run_dir", "elsewhere"]
    experiment.main(args)
    assert [o for run in seen for o in run if o.startswith("--name")] == [
        "--name=dpo-8resp-noref-train", "--name=dpo-8resp-noref",
    ]  # fmt: skip
    assert seen[0][6:] == [
        "--name=dpo-8resp-noref-train", "--scale=tiny", "--seed_everything=2", "--tuned.beta=0.5",
        "--data.fraction=0.5",
    ]  # fmt: skip
    assert seen[1][-2:] == ["--run_dir", "elsewhere"]
    done = tmp_path / "runs" / "tiny" / "dpo-8resp-noref-train" / "seed-2"
    done.mkdir(parents=True)
    (done / "summary.json").write_text('{"status": "KILLED"}')
    seen.clear()
    experiment.main(args)
    assert len(seen) == 2
    (done / "summary.json").write_text('{"status": "FINISHED"}')
    seen.clear()
    experiment.main(args)
    assert len(seen) == 1


@pytest.mark.parametrize("name", stems(EXPERIMENTS))
def test_a_second_stage_names_a_first_one_that_there_is(name: str) -> None:
    first = experiment.predecessor(EXPERIMENTS / f"{name}.yaml")
    assert first is None or first in stems(EXPERIMENTS)


@pytest.mark.parametrize("name", stems(EXPERIMENTS))
def test_names_follow_the_grammar(name: str) -> None:
    """<objective>-<k>resp[-<variation>], and the responses are those that the name says."""
    found = re.fullmatch(r"[a-z]+(-bt)?-(\d)resp(-[a-z0-9]+)*", name)
    assert found is not None
    responses = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())["data"]["responses"]
    assert responses == max(int(found[2]), 1)  # base-0resp trains on none


WANTED = (
    "ce-1resp ce-2resp ce-4resp ce-8resp dpo-2resp dpo-4resp dpo-8resp kto-8resp nca-8resp infonca-8resp ipvrm-8resp "
    "ce-8resp-balanced ce-8resp-instbalanced ce-8resp-25inst ce-8resp-50inst ce-8resp-75inst dpo-8resp-25inst "
    "dpo-8resp-50inst dpo-8resp-75inst dpo-8resp-noref-train dpo-8resp-noref-infer dpo-8resp-noref "
    "dpo-8resp-irrelevant dpo-8resp-dedup dpo-8resp-mixedgen dpo-8resp-steplabels orm-8resp orm-bt-8resp "
    "shepherd-8resp-hard shepherd-8resp-soft autopsv-8resp"
)


def test_every_experiment_of_the_paper_is_there() -> None:
    assert set(WANTED.split()) <= set(stems(EXPERIMENTS))


@cache
def resolved(seed: int, *overrides: str) -> str:
    """What dpo-8resp's run at tiny keeps as its config.yaml."""
    return resolved_config(experiment.options("dpo-8resp", "tiny", seed, overrides))


def made(folder: Path, *overrides: str, seed: int = 0) -> Path:
    """A finished run of dpo-8resp at tiny, made with these overrides, as RunRecord leaves it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(resolved(seed, *overrides))
    (folder / "summary.json").write_text('{"status": "FINISHED"}')
    return folder


BETA = "--model.reward_model.init_args.beta"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ((), ""),
        (
            (
                "--trainer.limit_val_batches=0",
                "--trainer.enable_progress_bar=false",
                "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor",
            ),
            "",
        ),
        ((BETA, "0.1", "--trainer.max_steps=3"), "max_steps: 3 -> -1"),
        (("--model.loss=CE",), r"loss.class_path: 'lit_prm.losses.CE' -> 'lit_prm.losses.DPO'"),
        (("--model.loss.pairs=BestWorst", "--data.prompt_template", "Solve: {prompt}"), "prompt_template"),
        (
            (
                "--model.reward_model.init_args.scoring_reference=Uniform",
                '--data.regimes=[{"class_path": "Balanced", "init_args": {"within": "dataset"}}]',
            ),
            "data.regimes",
        ),
    ],
)
def test_a_run_with_other_options_than_its_files_is_told_with_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], named: str
) -> None:
    """Of another seed than the files' own, which is no other option."""
    monkeypatch.chdir(REPOSITORY)
    seed = 2
    run = made(tmp_path / "run", *overrides, seed=seed)
    assert experiment.other_options(run, "dpo-8resp", "tiny", seed, overrides) == []  # as it was asked for
    other = "\n".join(experiment.other_options(run, "dpo-8resp", "tiny", seed))
    assert bool(other) == bool(named)
    assert named in other
    assert ("beta: 0.1 -> 0.5" in other) == (BETA in overrides)
    for option in ("pairs", "scoring_reference"):
        assert (option in other) == (f".{option}=" in "".join(overrides))


def test_all_runs_with_other_options_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    runs = [(made(tmp_path / str(seed), BETA, "0.1", seed=seed), "dpo-8resp", seed) for seed in (0, 1)]
    fine = (made(tmp_path / "fine"), "dpo-8resp", 0)
    with pytest.raises(ValueError, match=r"(?s)2 runs were made with other options.*/0:.*beta.*/1:.*beta") as refused:
        experiment.refuse_other_options([*runs, fine], "tiny")
    assert "fine" not in str(refused.value)


def test_a_second_stage_starts_from_a_first_one_made_with_its_overrides_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    seen: list[list[str]] = []
    monkeypatch.setattr(experiment, "run_experiment", lambda options: seen.append(list(options)))
    run = made(tmp_path / "runs" / "tiny" / "dpo-8resp" / "seed-0", BETA, "0.1")
    with pytest.raises(ValueError, match=r"beta: 0\.1 -> 0\.5"):
        experiment.main(["dpo-8resp-steplabels"])
    experiment.main(["dpo-8resp-steplabels", BETA, "0.1"])
    shutil.rmtree(run)
    made(run)
    experiment.main(["dpo-8resp-steplabels", BETA, "0.1"])  # the second stage alone is varied
    assert len(seen) == 2


def test_files_that_are_no_experiments_are_told_by_name(tmp_path: Path) -> None:
    file = tmp_path / "x-1resp.yaml"
    file.write_text("model: {loss: [")
    with pytest.raises(ValueError, match=r"x-1resp\.yaml is not valid YAML"):
        experiment.predecessor(file)
    file.write_text("after: [ce-1resp]")
    with pytest.raises(ValueError, match="not the name of one experiment"):
        experiment.predecessor(file)


def test_experiments_after_each_other_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "scale").mkdir(parents=True)
    (tmp_path / "experiments" / "scale" / "tiny.yaml").write_text("# a scale\n")
    for name, first in (("a", "b"), ("b", "a")):
        (tmp_path / "experiments" / f"{name}.yaml").write_text(f"after: {first}\n")
    with pytest.raises(ValueError, match="come after each other"):
        experiment.main(["a"])


def test_what_is_the_second_stages_own_is_not_given_to_the_first() -> None:
    given = [
        "--data.labeler.init_args.completions",
        "4",
        "--data.labeler=X",
        "--data.root",
        "r",
        "--run_dir=a",
        "--run_dirs",
    ]
    kept = experiment._without("--data.labeler", experiment._without("--run_dir", given))
    assert kept == ["--data.root", "r", "--run_dirs"]


def test_what_comes_first_is_no_override() -> None:
    for given in (["--after", "ce-1resp"], ["--after=ce-1resp"]):
        with pytest.raises(ValueError, match=r"Write `after: NAME` into experiments/dpo-8resp.yaml"):
            experiment.main(["dpo-8resp", *given])
