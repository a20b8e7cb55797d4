"""Do implicit process rewards beat everything that needs no training? The test set's problems of all seeds.

python -m benchmarks.pays [runs/tiny] [--seeds 3]

Reads the finished runs of `make paper` (or of `make exp` with SEED=0, 1, ...). Differences at N = 16 in points with a
95 % bootstrap interval over the problems of all seeds, paired, and the smallest difference of a single seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lit_prm.commands.paper.results import Line, PaperResults, summary
from lit_prm.evaluation.estimate import gain

RUNS = ("ce-8resp", "dpo-8resp", "ce-1resp")
CHOSEN = {"best of 16": "bon/min", "weighted vote": "vote/min"}
RIVALS = {
    "one at random": "bon/random", "majority": "majority", "reference's worst step": "bon/reference-min",
    "reference's sum": "bon/reference-sum", "vote by the reference": "vote/reference-min",
}  # fmt: skip
FOUND = {"the reference's worst step": "first_error/reference", "the commonest place": "first_error/position"}
GUESSES = {"shortest": "bon/shortest", "longest": "bon/longest"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/tiny"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results = PaperResults(options.folder, options.seeds)
    for name in RUNS:
        for label, curve in CHOSEN.items():
            for rival, other in RIVALS.items():
                show(results, f"{name}, {label} minus {rival}", Line(name, curve), Line(name, other))
        for rival, other in FOUND.items():
            line = f"{name}, first wrong step found minus {rival}"
            show(results, line, Line(name, "first_error/found"), Line(name, other))
    for guess, curve in GUESSES.items():
        show(results, f"the {guess} minus one at random", Line(RUNS[0], curve), Line(RUNS[0], "bon/random"))
    for run in results.experiment("orm-8resp").runs:
        print(f"orm-8resp seed {run.seed}: AUC within problems {run.metrics['outcome/test/auc_within_problems']:.3f}")


def show(results: PaperResults, label: str, ours: Line, theirs: Line) -> None:
    """Print the pooled difference and the smallest of the seeds."""
    a, b = (results.values(line, "test", (16,)) for line in (ours, theirs))
    difference = {key: a[key] - b[key] for key in a if key in b}
    seeds = {seed for seed, _ in difference}
    each = [summary([{key: value for key, value in difference.items() if key[0] == seed}]) for seed in seeds]
    least = min((estimate.mean for estimate in each if estimate is not None), default=float("nan"))
    pooled = summary([difference])
    above = "yes" if pooled is not None and pooled.low > 0 and least > 0 else "no"
    print(f"{label:62} {gain(pooled):24} least seed {least:+5.1f}  above 0: {above}")


if __name__ == "__main__":
    main()
