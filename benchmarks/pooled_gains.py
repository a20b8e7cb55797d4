"""Paired gains of recorded runs, pooled over seeds, with 95 % bootstrap intervals over problems.

python benchmarks/pooled_gains.py ce-8resp dpo-8resp ce-1resp [--scale tiny] [--set test] [--json FILE]

Every seed has its own world (problems, base model, rollouts) and training. Run these first:
for s in 0 1 2; do make exp NAME=ce-8resp SEED=$s; done
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from lit_prm.evaluation.intervals import bootstrap_interval
from lit_prm.evaluation.rows import read_rows

PAIRS = [
    ("best-of-N (min) - random", "bon/min", "bon/random"),
    ("best-of-N (sum) - random", "bon/sum", "bon/random"),
    ("best-of-N (min) - majority", "bon/min", "majority"),
    ("weighted vote (min) - majority", "vote/min", "majority"),
    ("best-of-N (min) - reference worst step", "bon/min", "bon/reference-min"),
    ("best-of-N (min) - reference sum", "bon/min", "bon/reference-sum"),
    ("weighted vote (min) - vote by reference", "vote/min", "vote/reference-min"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--set", default="test", dest="candidates")
    parser.add_argument("--runs", default="runs", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results = {name: pooled(asked.runs / asked.scale / name, asked.candidates) for name in asked.names}
    for name, result in results.items():
        print(f"\n{name}: {result['seeds']} seeds, {result['problems']} problems")
        for label, (mean, low, high) in result["points"].items():
            print(f"  {label:<46} {mean:6.1f} [{low:5.1f}, {high:5.1f}]")
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")


def pooled(folder: Path, candidates: str) -> dict[str, Any]:
    """Means and intervals, in points of accuracy, over the problems of all seeds."""
    files = sorted(folder.glob(f"seed-*/scores/{candidates}-problems.jsonl.gz"))
    if not files:
        raise SystemExit(f"no scores in {folder}; run: make exp NAME={folder.name} SCALE={folder.parent.name}")
    rows = [row for file in files for row in read_rows(file)]
    if "first_error" not in rows[0]:
        raise SystemExit(f"{files[0]} was written by an earlier version; remove {folder} and run the experiment again")
    points = {}
    for n in (4, 16, rows[0]["counts"][-1]):
        for label, ours, theirs in PAIRS:
            points[f"{label} @{n}"] = summary(at(rows, ours, n) - at(rows, theirs, n))
        for name in ("bon/min", "bon/sum", "bon/random", "majority", "vote/min", "bon/reference-min", "any"):
            points[f"{name} @{n}"] = summary(at(rows, name, n))
    known = [row["first_error"] for row in rows if row["first_error"]["chance"] is not None]
    found = {rule: np.array([row[rule] for row in known]) for rule in known[0]} if known else {}
    for rule, values in found.items():
        label = "first wrong step found" + ("" if rule == "found" else f" - {rule}")
        points[label] = summary(found["found"] - values if rule != "found" else values)
    return {"seeds": len(files), "problems": len(rows), "points": points}


def at(rows: list[dict[str, Any]], curve: str, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([row["curves"][curve][row["counts"].index(n)] for row in rows])


def summary(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float]:
    low, high = bootstrap_interval(values, samples=10_000)
    return 100 * float(values.mean()), 100 * low, 100 * high


if __name__ == "__main__":
    main()
