"""The `exp` and `list` commands: an experiment by its name, from training to its tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lit_prm.scoring.options import CommandParser, seed_number
from lit_prm.storage.run_files import config_of, read_record

EXPERIMENTS = Path("experiments")
OVERRIDES = (
    "OVERRIDES are any options of the configuration, e.g. --model.reward_model.init_args.beta 0.1 or\n"
    "--trainer.max_steps 4; python -m lit_prm fit --help lists all."
)


def main(args: Sequence[str]) -> None:
    """`exp NAME [--scale S] [--seed N] [OVERRIDES]`: train, evaluate, print tables; a finished run only prints."""
    usage = "%(prog)s NAME [--scale SCALE] [--seed SEED] [OVERRIDES]"
    parser = CommandParser("exp", usage=usage, epilog=OVERRIDES)
    stem = "experiment: a file's stem in experiments/; python -m lit_prm list shows all"
    parser.add_argument("name", metavar="NAME", help=stem)
    parser.add_argument("--scale", default="tiny", help="a file's stem in experiments/scale/ (default: %(default)s)")
    seed = "seed of the run, part of its folder's name (default: %(default)s)"
    parser.add_argument("--seed", type=seed_number, default=0, help=seed)
    arguments, overrides = parser.parse_known_args(list(args))
    if _without("--after", overrides) != overrides:
        raise ValueError(
            "--after cannot be an override: an experiment's file says which experiment comes first. "
            f"Write `after: NAME` into {EXPERIMENTS / arguments.name}.yaml"
        )
    run_after(arguments.name, arguments.scale, arguments.seed, overrides)


def run_after(name: str, scale: str, seed: int, overrides: Sequence[str], later: Sequence[str] = ()) -> Path:
    """Run the experiment, and before it the one that its file names under ``after``, unless that run is finished.

    The first stage gets the same overrides, except ``--run_dir`` and ``--data.labeler``, which belong to the second
    stage alone. A finished first stage must have been made with these overrides or without any. ``later`` are the
    experiments that wait for this one.
    """
    first = predecessor(config_files(name, scale)[-1])
    if first in (name, *later):
        raise ValueError(f"{name} and {first} come after each other. Remove one `after:` from their files")
    if first:
        folder = Path("runs") / scale / first / f"seed-{seed}"
        shared = _without("--data.labeler", _without("--run_dir", overrides))
        if read_record(folder / "summary.json").get("status") != "FINISHED":
            print(f"running {first} first: {name} starts from its checkpoint", flush=True)
            run_after(first, scale, seed, shared, (*later, name))
        elif other_options(folder, first, scale, seed) and other_options(folder, first, scale, seed, shared):
            refuse_other_options([(folder, first, seed)], scale)
    return run_experiment(options(name, scale, seed, overrides))


def _without(option: str, overrides: Sequence[str]) -> list[str]:
    """The overrides without ``option`` and its suboptions; a value is part of the option's word or the next word."""
    kept, skip = list[str](), False
    for word in overrides:
        if word.startswith("--"):
            skip = re.fullmatch(rf"{re.escape(option)}(\..+|=.*)?", word, re.DOTALL) is not None
        if not skip:
            kept.append(word)
    return kept


def predecessor(file: Path) -> str | None:
    """The experiment whose run must be finished before the experiment of ``file`` starts; None for most."""
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not valid YAML: {error}") from None
    first = content.get("after") if isinstance(content, dict) else None
    if first is not None and not isinstance(first, str):
        raise ValueError(f"{file}: `after` is {first!r}, not the name of one experiment. Name the one to start from")
    return first


def refuse_other_options(runs: Iterable[tuple[Any, ...]], scale: str) -> None:
    """Raise ValueError if a run was made with other options than its files have now.

    A run is a tuple of its folder, its experiment, its seed and then the overrides that it is made with, if any.
    The message lists five differences of each of the first five runs.
    """
    others = {folder: other_options(folder, name, scale, seed, more) for folder, name, seed, *more in runs}
    if changed := [(folder, lines) for folder, lines in others.items() if lines]:
        listed = "\n".join(f"{folder}:\n" + "\n".join(lines[:5]) for folder, lines in changed[:5])
        raise ValueError(
            f"{len(changed)} runs were made with other options than their files in {EXPERIMENTS}/ have now:\n{listed}\n"
            "Move or remove these folders to run the experiments again"
        )


def other_options(folder: Path, name: str, scale: str, seed: int, overrides: Sequence[str] = ()) -> list[str]:
    """One line for each option whose value in the run of ``folder`` differs from that of files and overrides.

    Callbacks are left out, because they change no weights.
    """
    from lit_prm.storage.run_folder import differing

    stored = folder / "config.yaml"
    if not stored.exists():
        return []
    own_seed = re.compile(rb"(\bseed(?:_everything)?: |/seed-)%d\b" % seed)
    as_seed_0 = config_of(stored, lambda text: own_seed.sub(rb"\g<1>0", text))
    lines = differing(as_seed_0, _resolved(name, scale, tuple(overrides)))
    return [line for line in lines if not line.startswith("  trainer.callbacks:")]


@cache
def _resolved(name: str, scale: str, overrides: tuple[str, ...]) -> str:
    """The configuration of the experiment with seed 0, as YAML."""
    from lit_prm.commands.lightning import resolved_config

    return resolved_config(options(name, scale, 0, overrides))


def options(name: str, scale: str, seed: int, overrides: Sequence[str]) -> list[str]:
    """The arguments of LightningCLI's `fit` for an experiment."""
    configs = [option for file in config_files(name, scale) for option in ("--config", str(file))]
    named = [f"--name={name}", f"--scale={scale}", f"--seed_everything={seed}"]
    return [*configs, *named, *tuned(name, scale), *overrides]


def tuned(name: str, scale: str) -> list[str]:
    """Options with the settings tuned for the experiment's objective, which win over those of the scale's file.

    They are in experiments/tuned/SCALE.yaml, if there is one, under the longest key that the name begins with.
    """
    file = EXPERIMENTS / "tuned" / f"{scale}.yaml"
    settings: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text()) if file.exists() else {}
    key = max(filter(name.startswith, settings), key=len, default="")
    return [f"--tuned.{setting}={value}" for setting, value in settings.get(key, {}).items()]


def config_files(name: str, scale: str) -> list[Path]:
    """Base, scale and experiment file; raise ValueError with the valid names for an unknown name or scale."""
    _refuse_other_folder()
    for what, stem, folder in (("SCALE", scale, EXPERIMENTS / "scale"), ("NAME", name, EXPERIMENTS)):
        valid = available(folder)
        if stem not in valid:
            raise ValueError(f"unknown {what} {stem!r}; {nearest(stem, valid)}")
    return [EXPERIMENTS / "base.yaml", EXPERIMENTS / "scale" / f"{scale}.yaml", EXPERIMENTS / f"{name}.yaml"]


def nearest(stem: str, valid: Mapping[str, str]) -> str:
    """The end of an error message: valid names similar to ``stem``, or all of them with their purposes."""
    near = get_close_matches(stem, valid, 5)
    if near:
        return f"did you mean {' or '.join(near)}? To see all: python -m lit_prm list"
    return f"there are:\n{_listed(valid)}"


def available(folder: Path) -> dict[str, str]:
    """Stem and purpose (the first comment line) of every config file of a folder except base.yaml."""
    files = sorted(folder.glob("*.yaml"), key=lambda file: file.stem)
    return {f.stem: f.read_text().split("\n", 1)[0].lstrip("# ") for f in files if f.stem != "base"}


def show_available(args: Sequence[str] = ()) -> None:
    """`list`: print every experiment and scale with its purpose."""
    CommandParser("list").read(args)
    _refuse_other_folder()
    print(f"experiments (make exp NAME=...):\n{_listed(available(EXPERIMENTS))}")
    print(f"scales (SCALE=...):\n{_listed(available(EXPERIMENTS / 'scale'))}")


def _refuse_other_folder() -> None:
    if not EXPERIMENTS.is_dir():
        raise ValueError(f"there is no {EXPERIMENTS}/ folder in {Path.cwd()}. Run this in the project's root folder")


def _listed(purposes: Mapping[str, str]) -> str:
    width = max(map(len, purposes), default=0)
    return "\n".join(f"  {name:<{width}} {purpose}" for name, purpose in purposes.items())


def run_experiment(options: Sequence[str]) -> Path:
    """Train or resume, evaluate the test sets, print; return the run's folder. A finished run is only printed."""
    from lit_prm.commands.lightning import run

    cli = run("fit", options)
    folder = Path(cli.config.run_dir)
    if cli.config.trainer.fast_dev_run:  # such a run writes nothing to evaluate or print
        return folder
    if not cli.finished and cli.datamodule.sets["test"]:
        with cli.ending_as_one():
            cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        show(folder, list(cli.datamodule.sets["test"]))
    return folder


def show(folder: Path, sets: Sequence[str]) -> None:
    """Print the tables of the run's candidate sets, and the next commands."""
    from lit_prm.reports.run_tables import best_of_n_table

    best_of_n_table(read_record(folder / "summary.json").get("metrics", {}), sets)
    print(f"files: {folder}   next: make ui | make compare | make list")
