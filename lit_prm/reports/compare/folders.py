"""The experiments to compare, out of the run folders of a scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lit_prm.reports.runs import Experiment, Run, read_run, status

Notice = Callable[[str], None]  # takes a sentence that the reader of the comparison should see


def read_experiments(runs: Path, scale: str, names: Iterable[str], notice: Notice) -> list[Experiment]:
    """The finished runs of ``names`` below `<runs>/<scale>`, in that order; of all experiments without names."""
    from rich.console import Console
    from rich.progress import track

    folders = _folders(runs / scale)
    finished = [name for name, of in folders.items() if any(status(folder) == "FINISHED" for folder in of)]
    wanted = list(dict.fromkeys(names)) or finished
    missing = [name for name in wanted if name not in finished]
    if missing or not wanted:
        raise ValueError(_nothing(runs, scale, missing))
    stderr = Console(stderr=True)
    shown = track(wanted, description="reading runs", console=stderr, transient=True)
    return [Experiment(name, tuple(_finished(folders[name], notice))) for name in shown]


def _folders(scale: Path) -> dict[str, list[Path]]:
    """Experiment -> the folders of its seeds, ascending; both by name."""
    seeds: dict[str, list[Path]] = {}
    for folder in scale.glob("*/seed-*/"):
        if folder.name.removeprefix("seed-").isdecimal():
            seeds.setdefault(folder.parent.name, []).append(folder)
    return {name: sorted(seeds[name], key=lambda f: int(f.name.removeprefix("seed-"))) for name in sorted(seeds)}


def _finished(folders: Sequence[Path], notice: Notice) -> list[Run]:
    runs = []
    for folder in folders:
        run = read_run(folder)
        if run is None:
            notice(f"{folder}: this run was left out because it is {status(folder) or 'not finished'}")
            continue
        if not run.problems:
            notice(f"{run}: the folder has no scores/*-problems.jsonl.gz, so the run is shown with its own intervals "
                   "and is paired with no other")  # fmt: skip
        runs.append(run)
    return runs


def _nothing(runs: Path, scale: str, missing: Sequence[str]) -> str:
    what = f"no finished run of {', '.join(missing)}" if missing else "no run"
    of_scale = _folders(runs / scale)
    states = [f"{f} is {status(f) or 'not finished'}" for name in missing for f in of_scale.get(name, [])]
    finished = {
        folder.name: [n for n, of in _folders(folder).items() if any(status(f) == "FINISHED" for f in of)]
        for folder in sorted(runs.glob("*/"))
    }
    listed = "\n".join(f"  {s}: {' '.join(names)}" for s, names in finished.items() if names) or "  nothing yet"
    return (
        f"{what} at scale {scale!r} in {runs}{' (' + '; '.join(states) + ')' if states else ''}; "
        f"it has\n{listed}\n{_how_to_make(missing[0] if missing else 'ce-1resp', scale)}"
    )


def _how_to_make(name: str, scale: str) -> str:
    experiments = Path("experiments")
    if experiments.is_dir() and not (experiments / f"{name}.yaml").is_file():
        return f"{experiments}/ has no {name} either: python -m lit_prm list"
    return f"make one: make exp NAME={name} SCALE={scale}"
