"""`python -m lit_prm bon FILE ...`: judge candidates, print tables, write JSON and a figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_prm.scoring.options import CommandParser, seed_number

if TYPE_CHECKING:
    from lit_prm.evaluation.vote_weights import VoteWeight
    from lit_prm.reports.best_of_n.pool import CandidatePool

_FILES = """a scored file (python -m lit_prm score), several scored files of the same candidates, or any candidate file
with labels, of which only the rules without scorer are judged"""
_WEIGHT = """how a score becomes the weight of a vote: sigmoid[:scale], softmax[:temperature], rank, or sum (the score
itself, which must not be negative); default sigmoid"""
_OFFICIAL = "judge as the paper's own script: the first N in file order, right answers merged into the gold one"


def main(args: Sequence[str]) -> None:
    """Run `bon`."""
    parser = CommandParser("bon")
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help=_FILES)
    add("--weight", metavar="NAME[:NUMBER]", help=_WEIGHT)
    add(
        "--aggregate",
        help="the primary aggregate: min, sum, mean, last, product, mean-probability; default the scorer's",
    )
    add("--counts", metavar="1,2,4", help="numbers of candidates N; default 1, 2, 4, ... K")
    add("--seed", type=seed_number, default=0, help="seed of the subsets that weighted votes sample")
    add("--json", type=Path, metavar="OUT", help="write all numbers as JSON")
    add("--figure", type=Path, metavar="OUT.png", help="draw accuracy and score against N, .png or .svg")
    add("--compat", choices=["official"], help=_OFFICIAL)
    add("--pairs", action="store_true", help="compare every two rules of a scorer, not only scorers")
    options = parser.read(args)
    _official(options) if options.compat else _judge_pool(options)


def _judge_pool(options: argparse.Namespace) -> None:
    from lit_prm.reports.best_of_n.figure import draw, refuse_other_formats
    from lit_prm.reports.best_of_n.findings import Settings, as_json, find
    from lit_prm.reports.best_of_n.pool import read_pool
    from lit_prm.reports.best_of_n.show import show_findings
    from lit_prm.reports.files import write_json

    if options.figure:
        refuse_other_formats(options.figure)
    weight, counts = vote_weight(options.weight or "sigmoid"), _numbers(options.counts)
    settings = Settings(weight, options.aggregate, counts, options.seed, options.pairs)
    pool = read_pool(options.files)
    if not pool.opinions and (options.aggregate or options.weight):
        raise ValueError(
            f"{pool.sources[0]} holds no scores that --aggregate or --weight could use. Leave the options out, or "
            "score the file first: python -m lit_prm score"
        )
    _tell_shortfalls(pool)
    findings = find(pool, settings)
    show_findings(findings)
    if options.json:
        write_json(options.json, as_json(findings))
    if options.figure:
        draw(findings, options.figure)


def _official(options: argparse.Namespace) -> None:
    from lit_prm.reports.best_of_n.official import official, official_json
    from lit_prm.reports.best_of_n.pool import read_pool
    from lit_prm.reports.best_of_n.show import show_official
    from lit_prm.reports.files import write_json

    if options.figure or options.pairs or options.counts or options.aggregate or options.weight:
        raise ValueError(
            "--compat official has its own numbers of candidates, aggregates and weights, no figure and no intervals. "
            "Leave out --figure, --pairs, --counts, --aggregate and --weight."
        )
    pool = read_pool(options.files)
    _tell_shortfalls(pool)
    accuracy = official(pool)
    show_official(accuracy)
    if options.json:
        write_json(options.json, official_json(pool, accuracy))


def _tell_shortfalls(pool: CandidatePool) -> None:
    for name, lines in pool.shortfalls().items():
        for line in lines:
            print(f"{name}: {line}")


def vote_weight(text: str) -> VoteWeight:
    """The vote weight that a text like `softmax:0.5` names."""
    from lit_prm.evaluation.vote_weights import Rank, Sigmoid, Softmax, Unchanged

    name, _, number = text.partition(":")
    if name in ("rank", "sum") and not number:
        return Rank() if name == "rank" else Unchanged()
    try:
        value = float(number or 1)
        if name in ("sigmoid", "softmax") and 0 < value < float("inf"):
            return Sigmoid(value) if name == "sigmoid" else Softmax(value)
    except ValueError:
        pass  # accuracy below
    raise ValueError(
        f"--weight {text!r} is none of sigmoid[:scale], softmax[:temperature], rank, sum. A number must be above 0."
    )


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(
            f"--counts {text!r} is no list of whole numbers from 1, separated by commas. Write it like 1,2,4."
        )
    return tuple(int(part) for part in parts)
