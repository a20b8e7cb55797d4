"""One experiment from its name to its table: fit, test, summary."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml

from lit_prm.storage.run_files import config_of, read_record

EXPERIMENTS = Path("experiments")
OVERRIDES = (
    "OVERRIDES are any options of the configuration, e.g. --model.reward_model.init_args.beta 0.1 or "
    "--trainer.max_steps 4; python -m lit_prm fit --help lists them."
)


def main(args: Sequence[str]) -> None:
    """`exp NAME [--scale S] [--seed N] [overrides of any option]`; done runs only print their table."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_prm exp",
        usage="%(prog)s NAME [--scale SCALE] [--seed SEED] [OVERRIDES]",
        epilog=OVERRIDES,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="file stem in experiments/: python -m lit_prm list shows them")
    parser.add_argument("--scale", default="tiny", help="file stem in experiments/scale/ (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of order and dropout; the run's folder has it (0)")
    known, overrides = parser.parse_known_args(list(args))
    if _without("--after", overrides) != overrides:
        raise ValueError(
            f"--after is no override, since a run and what it starts from are told by their files; write `after: NAME` "
            f"into {EXPERIMENTS / known.name}.yaml"
        )
    run_after(known.name, known.scale, known.seed, overrides)


def run_after(name: str, scale: str, seed: int, overrides: Sequence[str], later: Sequence[str] = ()) -> Path:
    """Run the experiment, but first the one that its file names under ``after``, unless that is finished.

    The first stage gets the same overrides but those of ``--run_dir`` and ``--data.labeler``, which are the second's
    own; a finished one must have been made with them or without any.
    """
    first = predecessor(config_files(name, scale)[-1])
    if first in (name, *later):
        raise ValueError(f"{name} and {first} come after each other; remove an `after:` from their files")
    if first:
        folder = Path("runs") / scale / first / f"seed-{seed}"
        shared = _without("--data.labeler", _without("--run_dir", overrides))
        if not is_trained(folder):
            print(f"first {first}, from which {name} starts", flush=True)
            run_after(first, scale, seed, shared, (*later, name))
        elif other_options(folder, first, scale, seed) and other_options(folder, first, scale, seed, shared):
            refuse_other_options([(folder, first, seed)], scale)
    return run_experiment(options(name, scale, seed, overrides))


def _without(option: str, overrides: Sequence[str]) -> list[str]:
    """The overrides without ``option``, what is below it, and their values, given as one word or two."""
    kept, skip = list[str](), False
    for word in overrides:
        if word.startswith("--"):
            ours = re.fullmatch(rf"{re.escape(option)}(\..+|=.*)?", word, re.DOTALL)
            skip = ours is not None
        if not skip:
            kept.append(word)
    return kept


def predecessor(file: Path) -> str | None:
    """The experiment that must have run before that of ``file``."""
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML: {error}") from None
    first = content.get("after") if isinstance(content, dict) else None
    if first is not None and not isinstance(first, str):
        raise ValueError(f"{file}: `after` is {first!r}, not the name of one experiment; name the one it starts from")
    return first


def is_trained(folder: Path) -> bool:
    """Whether the run of ``folder`` was trained to its end."""
    return read_record(folder / "summary.json").get("status") == "FINISHED"


def refuse_other_options(runs: Iterable[tuple[Path, str, int]], scale: str) -> None:
    """Raise when a run (folder, experiment, seed) has other options than its files say now, naming every difference."""
    found = [(folder, other) for folder, name, seed in runs if (other := other_options(folder, name, scale, seed))]
    if found:
        listed = "\n".join(f"{folder}:\n" + "\n".join(other[:5]) for folder, other in found[:5])
        raise ValueError(
            f"{len(found)} runs were made with other options than their files in {EXPERIMENTS}/ have now:\n{listed}\n"
            "move these folders away, or remove them, to make the runs anew"
        )


def other_options(folder: Path, name: str, scale: str, seed: int, overrides: Sequence[str] = ()) -> list[str]:
    """A line for every option that the run of ``folder`` has otherwise than files and overrides say.

    Callbacks are left out: they watch and record.
    """
    from lit_prm.storage.run_folder import differing

    stored = folder / "config.yaml"
    if not stored.exists():
        return []
    as_seed_0 = re.sub(rf"(\bseed(?:_everything)?: |/seed-){seed}\b", r"\g<1>0", stored.read_text())
    found = differing(config_of(stored, as_seed_0), _resolved(name, scale, tuple(overrides)))
    return [line for line in found if not line.startswith("  trainer.callbacks:")]


@cache
def _resolved(name: str, scale: str, overrides: tuple[str, ...]) -> str:
    """The configuration of seed 0."""
    from lit_prm.commands.lightning import resolved_config

    return resolved_config(options(name, scale, 0, overrides))


def options(name: str, scale: str, seed: int, overrides: Sequence[str]) -> list[str]:
    """What the command line beneath is given for an experiment."""
    configs = [option for file in config_files(name, scale) for option in ("--config", str(file))]
    return [*configs, f"--name={name}", f"--scale={scale}", f"--seed_everything={seed}", *overrides]


def config_files(name: str, scale: str) -> list[Path]:
    """Base, scale and experiment file; an unknown name or scale is refused with the valid ones."""
    _refuse_elsewhere()
    for what, stem, folder in (("SCALE", scale, EXPERIMENTS / "scale"), ("NAME", name, EXPERIMENTS)):
        valid = available(folder)
        if stem not in valid:
            raise ValueError(f"unknown {what} {stem!r}; {nearest(stem, valid)}")
    return [EXPERIMENTS / "base.yaml", EXPERIMENTS / "scale" / f"{scale}.yaml", EXPERIMENTS / f"{name}.yaml"]


def nearest(stem: str, valid: Mapping[str, str]) -> str:
    """Which known names are like it, or all of them with their purposes."""
    near = get_close_matches(stem, valid, 5)
    if near:
        return f"did you mean {' or '.join(near)}? All are shown by: python -m lit_prm list"
    return f"there are:\n{_listed(valid)}"


def available(folder: Path) -> dict[str, str]:
    """Stem and purpose (its first comment line) of every config file but the base."""
    files = sorted(folder.glob("*.yaml"), key=lambda file: file.stem)
    return {f.stem: f.read_text().split("\n", 1)[0].lstrip("# ") for f in files if f.stem != "base"}


def show_available(args: Sequence[str] = ()) -> None:
    """Print every experiment and scale with its purpose."""
    argparse.ArgumentParser(prog="python -m lit_prm list").parse_args(list(args))
    _refuse_elsewhere()
    print(f"experiments (make exp NAME=...):\n{_listed(available(EXPERIMENTS))}")
    print(f"scales (SCALE=...):\n{_listed(available(EXPERIMENTS / 'scale'))}")


def _refuse_elsewhere() -> None:
    if not EXPERIMENTS.is_dir():
        raise ValueError(f"there is no {EXPERIMENTS}/ folder in {Path.cwd()}; run this in the project's root folder")


def _listed(purposes: Mapping[str, str]) -> str:
    width = max(map(len, purposes), default=0)
    return "\n".join(f"  {name:<{width}} {purpose}" for name, purpose in purposes.items())


def run_experiment(options: Sequence[str]) -> Path:
    """Fit (or continue), test, print; returns the run's folder. What is finished is only printed."""
    from lit_prm.commands.lightning import run, told_when_stopped

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
    from lit_prm.reports.run_tables import best_of_n_table

    best_of_n_table(read_record(folder / "summary.json")["metrics"], sets)
    print(f"files: {folder}   next: make ui | make compare | make list")
