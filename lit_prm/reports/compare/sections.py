"""The sections of a comparison's report, and how settings, data, code and versions of the runs differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import yaml

from lit_prm.evaluation.tables import Cell, Table
from lit_prm.models.flops import assumptions
from lit_prm.reports.compare import tables
from lit_prm.reports.compare.evidence import Evidence
from lit_prm.reports.compare.tables import shared
from lit_prm.reports.document import Report, Section, some
from lit_prm.reports.runs import Experiment, Run
from lit_prm.storage.run_files import flatten

WORDS: dict[str, str] = yaml.safe_load((files("lit_prm.reports.compare") / "words.yaml").read_text(encoding="utf-8"))


def report(
    evidence: Evidence, title: str, warnings: Sequence[str], figures: Sequence[str], extra: Sequence[Section]
) -> Report:
    """Every section that has something to show; ``figures`` names those that were drawn."""
    kept = [
        replace(s, tables=some(*s.tables), figures=tuple(f for f in s.figures if f in figures))
        for s in _sections(evidence, extra)
    ]
    shown = tuple(s for s in kept if s.tables or s.figures or not s.words)
    return Report(title, WORDS["source"], tuple(warnings), shown)


def _sections(evidence: Evidence, extra: Sequence[Section]) -> Iterator[Section]:
    sets = evidence.sets
    yield Section("Compared", "", (tables.compared(evidence),))
    yield Section("Best-of-N", WORDS["best_of_n"], tables.headline(evidence))
    yield Section("By number of candidates", WORDS["curves"], (), ("curves",))
    yield Section("Paired differences", WORDS["pairs"], tuple(_pairs(evidence)), ("gains",))
    yield from extra
    yield _settings_section(evidence)
    yield Section("Cost", assumptions(), some(tables.cost(evidence)), ("cost",))
    yield Section("Levels", WORDS["levels"], (), ("levels",))
    yield Section("Steps", WORDS["steps"], some(*(tables.steps(evidence, name) for name in sets)))
    yield Section("Training", WORDS["training"], (), ("training",))
    rules = tuple(tables.accuracy(evidence, name, evidence.counts((name,))) for name in sets)
    yield Section("All rules", WORDS["rules"], rules)


def _pairs(evidence: Evidence) -> Iterator[Table]:
    """The mean over sets, then every set folded; with one set only that one."""
    several = len(evidence.sets) > 1
    if several:
        yield from some(tables.pairs(evidence, evidence.sets, f"mean over {', '.join(evidence.sets)}"))
    for name in evidence.sets:
        yield from some(tables.pairs(evidence, (name,), name, folded=several))


def _settings_section(evidence: Evidence) -> Section:
    table = differences(list(evidence.experiments.values()))
    if len(evidence.names) == 1:
        return Section("Settings", "Nothing to compare with.")
    return Section("Settings", WORDS["settings"], (table,)) if table else Section("Settings: none differs")


ABSENT = Cell("absent", "quiet")
_NOISE = ("run_dir", "name", "ckpt_path", "config", "trainer.logger.", "trainer.default_root_dir")


def differences(experiments: Sequence[Experiment]) -> Table | None:
    """One row per setting in which experiments differ; None when there is none.

    The name, the folder and the seed of a run are no settings; in paths they are replaced.
    """
    seeds = _seed_settings(experiments)
    settings = [_settings(experiment, seeds) for experiment in experiments]
    keys = sorted({key for one in settings for key in one})
    rows = [(key, *(one.get(key, ABSENT) for one in settings)) for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return Table(("setting", *(e.name for e in experiments)), tuple(rows), numbers=False) if rows else None


def _seed_settings(experiments: Sequence[Experiment]) -> set[str]:
    """Settings that are the run's seed in every run that has them."""
    is_seed: dict[str, bool] = {}
    for run in (run for experiment in experiments for run in experiment.runs):
        for key, value in _flat(run.params).items():
            if "seed" in key.rpartition(".")[2]:
                is_seed[key] = is_seed.get(key, True) and value == str(run.seed)
    return {key for key, always in is_seed.items() if always}


def _settings(experiment: Experiment, seeds: Collection[str]) -> dict[str, str]:
    """Every setting as text; values that differ between seeds side by side."""
    values: dict[str, list[str]] = {}
    for run in experiment.runs:
        for key, value in _flat(run.params).items():
            if not key.startswith(_NOISE) and key not in seeds:
                values.setdefault(key, []).append(_without_run(value, run))
    return {key: shared(of_seeds) for key, of_seeds in values.items()}


def _flat(params: Mapping[str, Any]) -> dict[str, str]:
    """As a person would write them: `model.loss: CE`, `model.loss.margin`, `trainer.callbacks.BestOfN.folder`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= _by_class(key, value) if _holds_classes(value) else {key: value}
    return dict(_short(key, str(value)) for key, value in flat.items())


def _short(key: str, value: str) -> tuple[str, str]:
    short = key.replace(".init_args", "")
    return (short[: -len(".class_path")], value.rpartition(".")[2]) if short.endswith(".class_path") else (short, value)


def _holds_classes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) and "class_path" in x for x in value)


def _by_class(key: str, classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for one in classes:
        name = f"{key}.{str(one['class_path']).rpartition('.')[2]}"
        flat |= flatten(one.get("init_args") or {}, f"{name}.") or {name: "yes"}
    return flat


def _without_run(value: str, run: Run) -> str:
    folder = str(run.params.get("run_dir") or "")
    return (value.replace(folder, "<run>") if folder else value).replace(f"seed-{run.seed}", "seed-<seed>")


def warnings(experiments: Sequence[Experiment]) -> list[str]:
    """One sentence for each way in which runs are not of the same code, packages or data."""
    runs = [run for experiment in experiments for run in experiment.runs]
    return [*_commits(runs), *_versions(runs), *_data(experiments)]


def _commits(runs: Sequence[Run]) -> Iterator[str]:
    if len({run.code for run in runs}) > 1:
        yield f"Runs are of different commits: {_listed({f'{run.name} {run.seed}': run.code for run in runs})}."
    if any(run.dirty for run in runs):
        yield "A star marks a commit whose files had been changed: equal commits may be different code."
    if any(run.commit is None for run in runs):
        yield "Some runs do not say which commit they are of."


def _versions(runs: Sequence[Run]) -> Iterator[str]:
    for package in sorted({package for run in runs for package in run.versions}):
        versions = {f"{run.name} {run.seed}": run.versions.get(package, "not said") for run in runs}
        if len(set(versions.values())) > 1:
            yield f"Versions of {package} differ: {_listed(versions)}."


def _data(experiments: Sequence[Experiment]) -> Iterator[str]:
    """Seeds may have data of their own; experiments at one seed should have the same."""
    roles = dict.fromkeys(role for e in experiments for run in e.runs for role in run.digests)
    for role in roles:
        for seed in sorted({seed for e in experiments for seed in e.seeds}):
            runs = [run for e in experiments for run in e.runs if run.seed == seed and role in run.digests]
            if len({run.digests[role] for run in runs}) > 1:
                yield f"Data {role!r} of seed {seed} differ: {_listed({r.name: r.digests[role][:8] for r in runs})}."
    for experiment in experiments:
        if not any(run.digests for run in experiment.runs):
            yield f"{experiment.name} does not say which data it read."


def _listed(values: Mapping[str, str]) -> str:
    """`abc (a 0, a 1); def (b 0)`: every value with the runs that have it; long lists are cut."""
    runs: dict[str, list[str]] = {}
    for run, value in values.items():
        runs.setdefault(value, []).append(run)
    return "; ".join(
        f"{value} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})" for value, names in runs.items()
    )
