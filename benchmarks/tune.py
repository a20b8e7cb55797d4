"""Chooses settings of each objective on the validation set, from the same number of configurations for each.

python -m benchmarks.tune [--scale tiny] [--seed 0] [--workers 2] [--names NAME ...] [--json FILE]

Every experiment is trained with one seed in nine configurations and evaluated on the validation set only; no test set
is read. Implicit rewards get three learning rates by three betas, value heads nine
learning rates. Runs are kept in runs/tune/ and reused. A second stage starts from
its first one in the same configuration.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lit_prm.commands.experiment import EXPERIMENTS, config_files, predecessor, run_experiment
from lit_prm.commands.paper.workers import logged
from lit_prm.storage.run_files import read_record

NAMES = (
    "ce-8resp", "dpo-8resp", "kto-8resp", "nca-8resp", "nca-8resp-kway", "infonca-8resp", "ipvrm-8resp", "orm-8resp",
    "orm-bt-8resp", "shepherd-8resp-hard", "shepherd-8resp-soft", "shepherd-8resp-hard-equaltokens", "osv-8resp",
    "autopsv-8resp",
)  # fmt: skip
LABELS = "shepherd-8resp-hard"
SHOWN = ("bon/validation/acc@4", "bon/validation/acc@16", "vote/validation/acc@16", "steps/validation/auc")


RATES = ("1e-4", "3e-4", "1e-3")
BETAS = ("0.05", "0.5", "2.0")
PREFIX_BETAS = ("1.0", "3.0", "10.0")
HEAD_RATES = ("3e-5", "1e-4", "2e-4", "3e-4", "5e-4", "1e-3", "2e-3", "3e-3", "1e-2")

Options = tuple[str, ...]  # of one configuration, e.g. ("--tuned.lr=1e-4", "--tuned.beta=0.5")


def configurations(name: str) -> list[Options]:
    """The nine configurations of an experiment, by the tuned settings that its file reads."""
    text = (EXPERIMENTS / f"{name}.yaml").read_text()
    if "tuned.head_lr" in text:
        return [(f"--tuned.head_lr={rate}",) for rate in HEAD_RATES]
    beta, betas = ("prefix_beta", PREFIX_BETAS) if "tuned.prefix_beta" in text else ("beta", BETAS)
    return [(f"--tuned.lr={rate}", f"--tuned.{beta}={value}") for rate in RATES for value in betas]


def label(options: Options) -> str:
    """The configuration in a word, e.g. lr=1e-4,beta=0.5."""
    return ",".join(option.removeprefix("--tuned.") for option in options)


def folder(name: str, scale: str, seed: int, options: Options) -> Path:
    return Path("runs") / "tune" / scale / name / f"seed-{seed}-{label(options)}"


def train(name: str, scale: str, seed: int, options: Options, more: Sequence[str]) -> dict[str, float]:
    """The run's metrics; a finished run is not repeated."""
    run = folder(name, scale, seed, options)
    if read_record(run / "summary.json").get("status") != "FINISHED":
        with logged(run / "log.txt"):
            run_experiment([*arguments(name, scale, seed, options), *more])
    metrics: dict[str, float] = json.loads((run / "summary.json").read_text())["metrics"]
    return metrics


def arguments(name: str, scale: str, seed: int, options: Options) -> list[str]:
    files = config_files(name, scale)
    first = predecessor(files[-1])
    of_first = str(folder(first, scale, seed, options) / "checkpoints" / "last.ckpt") if first else ""
    earlier = [f"--model.start={of_first}"] if first else []
    if first and "checkpoint:" in (EXPERIMENTS / f"{name}.yaml").read_text():
        earlier.append(f"--data.labeler.init_args.checkpoint={of_first}")
    return [
        *(option for file in files for option in ("--config", str(file))),
        f"--name={name}", f"--scale={scale}", f"--seed_everything={seed}",
        f"--run_dir={folder(name, scale, seed, options)}", *options,
        "--data.test={}", "--trainer.val_check_interval=1.0",
        "--trainer.logger=false", "--trainer.enable_progress_bar=false", *earlier,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--json", type=Path)
    asked, more = parser.parse_known_args()  # the rest are options of every run, e.g. --data.root FOLDER
    results: dict[str, dict[str, Any]] = {name: {} for name in asked.names}
    with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:

        def submit(name: str, options: Options) -> Future[dict[str, float]]:
            return pool.submit(train, name, asked.scale, asked.seed, options, more)

        if LABELS in asked.names:  # once: the others find its completions in the cache
            submit(LABELS, configurations(LABELS)[0]).result()
        firsts = {n: predecessor(config_files(n, asked.scale)[-1]) for n in asked.names}
        for stage in ([n for n in asked.names if not firsts[n]], [n for n in asked.names if firsts[n]]):
            jobs = {(name, options): submit(name, options) for name in stage for options in configurations(name)}
            for (name, options), job in jobs.items():
                results[name][label(options)] = {key: job.result()[key] for key in SHOWN}
                numbers = (f"{100 * value:6.1f}" for value in results[name][label(options)].values())
                print(f"{name:<34} {label(options):<24}", *numbers, flush=True)
    print("\nbest mean of best-of-4 and best-of-16 on validation (columns above:", ", ".join(SHOWN), "\b)")
    for name, tried in results.items():
        best = max(tried, key=lambda options, tried=tried: sum(tried[options][key] for key in SHOWN[:2]))  # type: ignore[misc]
        print(f"{name:<34} {best}")
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
