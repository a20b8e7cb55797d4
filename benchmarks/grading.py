"""Speed and strictness of grading: counts and pairs per second, with a cold and a warm cache.

LIT_PRM_DATA=FOLDER python -m benchmarks.grading [--odd 4000] [--limit 1.0]

FOLDER holds math_train.jsonl.gz, the training problems of MATH with their solutions.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from lit_prm.answers import all_equivalent, equivalent
from tests.hostile_answers import gold_answers, odd_pairs
from tests.stand_in_judges import SPIN, SUPERVISE
from tests.test_hostile import near_misses, only_ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--odd", type=int, default=4000, help="number of odd pairs of answers (default: %(default)s)")
    parser.add_argument(
        "--limit", type=float, default=1.0, help="time limit of an odd pair in seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--answers", type=int, default=7500, help="number of answers of math_train (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIT_PRM_CACHE"] = folder
        print(f"restart after a kill: {1000 * _restart():.0f} ms; first start: {_start():.1f} s")
        _odd(arguments.odd, arguments.limit)
        _near(gold_answers(Path(os.environ["LIT_PRM_DATA"]))[: arguments.answers])


def _start() -> float:
    from lit_prm.answers.workers.pool import Worker

    begun = time.monotonic()
    worker = Worker()
    worker.ask("x+1", "1+x", 60)
    worker.close()
    return time.monotonic() - begun


def _restart() -> float:
    from lit_prm.answers.workers.pool import Worker

    worker = Worker(SUPERVISE)
    worker.ask("x+1", "1+x", 60)
    begun = time.monotonic()
    for _ in range(20):
        worker.ask(SPIN, "x", 0.05)
    worker.close()
    return (time.monotonic() - begun) / 20 - 0.05


def _odd(count: int, limit: float) -> None:
    equivalent("x+1", "1+x", 60)
    pairs = list(odd_pairs(3, count))
    for cache in ("cold", "warm"):
        begun, longest = time.monotonic(), 0.0
        walls, equal = Counter[str](), Counter[str]()
        for kind, a, b in pairs:
            start = time.monotonic()
            equal[kind] += equivalent(a, b, limit)
            wall = time.monotonic() - start
            walls[kind] += wall >= limit
            longest = max(longest, wall)
            if wall > limit + 1:
                print(f"  LATE: {wall:.2f} s, {kind}: {a[:99]!r} {b[:99]!r}", flush=True)
        spent = time.monotonic() - begun
        print(f"odd, {cache}: {count} pairs in {spent:.0f} s, {count / spent:.0f}/s; longest {longest:.2f} s", end="")
        print(f" (limit {limit}); equal {sum(equal.values())}; at the limit: {dict(+walls)}", flush=True)


def _near(golds: list[str]) -> None:
    pairs = [(a, a) for a in golds]
    nears = near_misses(golds, 0, each=1)
    pairs += [(a, b) for _, a, b in nears]
    for cache in ("cold", "warm"):
        begun = time.monotonic()
        equal = all_equivalent(pairs)
        spent = time.monotonic() - begun
        print(f"math_train, {cache}: {len(pairs)} pairs in {spent:.0f} s, {len(pairs) / spent:.0f}/s", flush=True)
    changed = Counter(kind for kind, _, _ in nears)
    called = Counter(kind for (kind, _, _), same in zip(nears, equal[len(golds) :], strict=True) if same)
    print(f"equal to itself: {sum(equal[: len(golds)])} of {len(golds)}")
    print("near misses called equal: " + ", ".join(f"{k} {called[k]} of {n}" for k, n in changed.items()))
    print(f"of these not by math-verify itself: {dict(Counter(kind for kind, _, _ in only_ours(nears)))}")


if __name__ == "__main__":
    main()
