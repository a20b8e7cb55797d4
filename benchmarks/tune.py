"""Chooses settings of each objective on the validation set, from the same number of configurations for each.

python -m benchmarks.tune [--scale tiny] [--seed 0] [--workers 2] [--rates 1e-4 3e-4 1e-3] [--names NAME ...]
                          [--json FILE]

Every experiment is trained with one seed at every learning rate and evaluated on the validation set only; no test set
is read. Runs are kept in runs/tune/ and reused. A second stage starts from its first one at the same rate.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lit_prm.commands.experiment import EXPERIMENTS, config_files, is_trained, predecessor, run_experiment
from lit_prm.commands.paper.workers import logged

NAMES = (
    "ce-8resp", "dpo-8resp", "kto-8resp", "nca-8resp", "nca-8resp-kway", "infonca-8resp", "ipvrm-8resp", "orm-8resp",
    "orm-bt-8resp", "shepherd-8resp-hard", "shepherd-8resp-soft", "shepherd-8resp-hard-equaltokens", "osv-8resp",
    "autopsv-8resp",
)  # fmt: skip
LABELS = "shepherd-8resp-hard"
SHOWN = ("bon/validation/acc@4", "bon/validation/acc@16", "vote/validation/acc@16", "steps/validation/auc")


def folder(name: str, scale: str, seed: int, rate: str) -> Path:
    return Path("runs") / "tune" / scale / name / f"seed-{seed}-lr-{rate}"


def train(name: str, scale: str, seed: int, rate: str) -> dict[str, float]:
    """The run's metrics; a finished run is not repeated."""
    run = folder(name, scale, seed, rate)
    if not is_trained(run):
        with logged(run / "log.txt"):
            run_experiment(options(name, scale, seed, rate))
    found: dict[str, float] = json.loads((run / "summary.json").read_text())["metrics"]
    return found


def options(name: str, scale: str, seed: int, rate: str) -> list[str]:
    files = config_files(name, scale)
    first = predecessor(files[-1])
    of_first = str(folder(first, scale, seed, rate) / "checkpoints" / "last.ckpt") if first else ""
    earlier = [f"--model.start={of_first}"] if first else []
    if first and "checkpoint:" in (EXPERIMENTS / f"{name}.yaml").read_text():
        earlier.append(f"--data.labeler.init_args.checkpoint={of_first}")
    return [
        *(option for file in files for option in ("--config", str(file))),
        f"--name={name}", f"--scale={scale}", f"--seed_everything={seed}",
        f"--run_dir={folder(name, scale, seed, rate)}",
        f"--model.optimizer.init_args.lr={rate}", "--data.test={}", "--trainer.val_check_interval=1.0",
        "--trainer.logger=false", "--trainer.enable_progress_bar=false", *earlier,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rates", nargs="+", default=["1e-4", "3e-4", "1e-3"])
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, dict[str, Any]] = {name: {} for name in asked.names}
    with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:
        if LABELS in asked.names:  # once: the others find its completions in the cache
            pool.submit(train, LABELS, asked.scale, asked.seed, asked.rates[0]).result()
        firsts = {n: predecessor(config_files(n, asked.scale)[-1]) for n in asked.names}
        for stage in ([n for n in asked.names if not firsts[n]], [n for n in asked.names if firsts[n]]):
            jobs = {(n, r): pool.submit(train, n, asked.scale, asked.seed, r) for n in stage for r in asked.rates}
            for (name, rate), job in jobs.items():
                found[name][rate] = {key: job.result()[key] for key in SHOWN}
                print(f"{name:<34} lr {rate:<6}", *(f"{100 * v:6.1f}" for v in found[name][rate].values()), flush=True)
    print("\nbest mean of best-of-4 and best-of-16 on validation (columns above:", ", ".join(SHOWN), "\b)")
    for name, rates in found.items():
        best = max(rates, key=lambda rate, rates=rates: sum(rates[rate][key] for key in SHOWN[:2]))  # type: ignore[misc]
        print(f"{name:<34} lr {best}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
