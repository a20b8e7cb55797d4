"""One experiment from its name to its table: fit, test, summary."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lit_prm.flat import flatten

EXPERIMENTS = Path("experiments")


def main(args: Sequence[str]) -> None:
    """`exp NAME [--scale S] [--seed N] [overrides of any option]`; done runs only print their table."""
    parser = argparse.ArgumentParser(prog="python -m lit_prm exp", allow_abbrev=False)
    parser.add_argument("name", help="file stem in experiments/")
    parser.add_argument("--scale", default="tiny", help="file stem in experiments/scale/")
    parser.add_argument("--seed", type=int, default=0)
    known, overrides = parser.parse_known_args(list(args))
    run_after(known.name, known.scale, known.seed, overrides)


def run_after(name: str, scale: str, seed: int, overrides: Sequence[str]) -> Path:
    """Run the experiment, but first the one that its file names under ``after``, unless that is finished."""
    files = config_files(name, scale)
    first = predecessor(files[-1])
    if first:
        folder = Path("runs") / scale / first / f"seed-{seed}"
        if not is_finished(folder):
            run_after(first, scale, seed, _without("--run_dir", overrides))
        else:
            refuse_other_options(folder, first, scale, seed, overrides)
    configs = [option for file in files for option in ("--config", str(file))]
    return run_experiment([*configs, f"--name={name}", f"--scale={scale}", f"--seed_everything={seed}", *overrides])


def _without(option: str, overrides: Sequence[str]) -> list[str]:
    """The overrides without ``option`` and its value, given as one word or two."""
    pairs = zip(overrides, ["", *overrides], strict=False)
    return [o for o, before in pairs if o != option and not o.startswith(f"{option}=") and before != option]


def predecessor(file: Path) -> str | None:
    """The experiment that must have run before that of ``file``."""
    content = yaml.safe_load(file.read_text())
    return content.get("after") if isinstance(content, dict) else None


def is_finished(folder: Path) -> bool:
    """Whether the run of ``folder`` was trained to its end."""
    file = folder / "summary.json"
    return file.exists() and json.loads(file.read_text()).get("status") == "FINISHED"


# What makes a run another one; the rest says how and where it was made.
_DECISIVE = ("base_model", "model.", "data.", "trainer.max_epochs")


def refuse_other_options(folder: Path, name: str, scale: str, seed: int, overrides: Sequence[str] = ()) -> None:
    """Raise when the run of ``folder`` has other options than its files and ``overrides`` say, naming each."""
    stored = folder / "config.yaml"
    if not stored.exists():
        return
    made = flatten(yaml.safe_load(stored.read_text()))
    wanted = flatten(merged(name, scale, seed, overrides))
    known = {key: value for key, value in wanted.items() if key in made and key.startswith(_DECISIVE)}
    other = [f"  {key}: {made[key]!r}, not {value!r}" for key, value in known.items() if not _same(made[key], value)]
    if other:
        listed = "\n".join(other[:10])
        raise ValueError(
            f"{folder} was made with other options than {name} has:\n{listed}\n"
            "move the folder away, or remove it, to make the run anew"
        )


def merged(name: str, scale: str, seed: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What base, scale and experiment file and then the overrides say together, interpolations resolved."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("fast_precision"):  # what it finds decides nothing here
        OmegaConf.register_resolver("fast_precision", lambda _: None)
    whole: Any = OmegaConf.merge(*(OmegaConf.load(file) for file in config_files(name, scale)))
    whole = OmegaConf.merge(whole, {"name": name, "seed_everything": seed})
    for word in re.split(r"\s(?=--)", " ".join(overrides)):
        key, found, value = re.sub(r"^--(\S+?)[= ]", r"\1\n", word).partition("\n")
        if found and not key.endswith("+"):
            OmegaConf.update(whole, key, yaml.safe_load(value), force_add=True)
    resolved: dict[str, Any] = OmegaConf.to_container(whole, resolve=True)  # type: ignore[assignment]
    return resolved


def _same(made: Any, wanted: Any) -> bool:
    """Whether a resolved value is what a file says, where a class may go by its bare name."""
    if isinstance(wanted, list):
        return isinstance(made, list) and len(made) == len(wanted)  # of classes, whose arguments were filled in
    return bool(made == wanted) or (isinstance(made, str) and made.rpartition(".")[2] == wanted)


def config_files(name: str, scale: str) -> list[Path]:
    """Base, scale and experiment file; an unknown name or scale is refused with the valid ones."""
    _refuse_elsewhere()
    for what, stem, folder in (("SCALE", scale, EXPERIMENTS / "scale"), ("NAME", name, EXPERIMENTS)):
        valid = available(folder)
        if stem not in valid:
            raise ValueError(f"unknown {what} {stem!r}; {folder}/ has:\n{_listed(valid)}")
    return [EXPERIMENTS / "base.yaml", EXPERIMENTS / "scale" / f"{scale}.yaml", EXPERIMENTS / f"{name}.yaml"]


def available(folder: Path) -> dict[str, str]:
    """Stem and purpose (its first comment line) of every config file but the base."""
    files = sorted(folder.glob("*.yaml"), key=lambda file: file.stem)
    return {f.stem: f.read_text().split("\n", 1)[0].lstrip("# ") for f in files if f.stem != "base"}


def show_available() -> None:
    """Print every experiment and scale with its purpose."""
    _refuse_elsewhere()
    print(f"experiments (make exp NAME=...):\n{_listed(available(EXPERIMENTS))}")
    print(f"scales (SCALE=...):\n{_listed(available(EXPERIMENTS / 'scale'))}")


def _refuse_elsewhere() -> None:
    if not EXPERIMENTS.is_dir():
        raise ValueError(f"there is no {EXPERIMENTS}/ folder in {Path.cwd()}; run this in the project's root folder")


def _listed(purposes: dict[str, str]) -> str:
    width = max(map(len, purposes), default=0)
    return "\n".join(f"  {name:<{width}} {purpose}" for name, purpose in purposes.items())


def run_experiment(options: Sequence[str]) -> Path:
    """Fit (or continue), test, print; returns the run's folder. What is finished is only printed."""
    from lit_prm.lightning_cli import run, told_when_stopped

    cli = run(["fit", *options])
    folder = Path(cli.config.fit.run_dir)
    if cli.config.fit.trainer.fast_dev_run:  # leaves nothing to test or to show
        return folder
    if not cli.finished and cli.datamodule.sets["test"]:
        with told_when_stopped(cli.trainer):
            cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        show(folder, list(cli.datamodule.sets["test"]))
    return folder


def show(folder: Path, sets: Sequence[str]) -> None:
    """Print what the run found on the candidate sets, and where to look next."""
    from lit_prm.tables import best_of_n_table

    best_of_n_table(json.loads((folder / "summary.json").read_text())["metrics"], sets)
    print(f"files: {folder}   next: make ui | make compare | make list")
