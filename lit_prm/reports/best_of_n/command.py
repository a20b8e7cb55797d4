"""`python -m lit_prm bon FILE ...`: reads candidates, prints tables, writes JSON and a figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_prm.evaluation.vote_weights import VoteWeight
    from lit_prm.reports.best_of_n.pool import CandidatePool

_FILES = """a scored file (python -m lit_prm score), several of the same candidates, or any candidate file with labels,
for what needs no scorer"""
_WEIGHT = """how scores weigh votes: sigmoid[:scale], softmax[:temperature], rank, or sum of the scores themselves,
which must not be negative; default sigmoid"""
_OFFICIAL = """the protocol of the paper's own script: first N in file order, gold-merged answers; labelled so"""


def main(args: Sequence[str]) -> None:
    """Run `bon`."""
    parser = argparse.ArgumentParser(prog="python -m lit_prm bon", allow_abbrev=False)
    parser.add_argument("files", nargs="+", metavar="FILE", help=_FILES)
    parser.add_argument("--weight", metavar="NAME[:NUMBER]", help=_WEIGHT)
    parser.add_argument("--aggregate", help="the primary one of min, sum, mean, last, product; default the scorer's")
    parser.add_argument("--counts", metavar="1,2,4", help="numbers of candidates N; default 1, 2, 4, ... K")
    parser.add_argument("--seed", type=int, default=0, help="of the subsets that weighted votes sample")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers")
    parser.add_argument(
        "--figure", type=Path, metavar="OUT.png", help="draw accuracy and score against N, .png or .svg"
    )
    parser.add_argument("--compat", choices=["official"], help=_OFFICIAL)
    parser.add_argument("--pairs", action="store_true", help="compare every two rules, not only scorers")
    given = parser.parse_args(args)
    _official(given) if given.compat else _judge(given)


def _judge(given: argparse.Namespace) -> None:
    from lit_prm.reports.best_of_n.figure import draw, refuse_other_formats
    from lit_prm.reports.best_of_n.findings import Settings, as_json, find
    from lit_prm.reports.best_of_n.pool import read_pool
    from lit_prm.reports.best_of_n.show import show_findings
    from lit_prm.reports.files import write_json

    if given.figure:
        refuse_other_formats(given.figure)
    settings = Settings(
        vote_weight(given.weight or "sigmoid"), given.aggregate, _numbers(given.counts), given.seed, given.pairs
    )
    pool = read_pool(given.files)
    if not pool.opinions and (given.aggregate or given.weight):
        raise ValueError(
            f"{pool.sources[0]}: holds no scores that --aggregate or --weight could use; leave them out, or score it "
            "first (python -m lit_prm score)"
        )
    findings = find(pool, settings)
    show_findings(findings)
    if given.json:
        write_json(given.json, as_json(findings))
    if given.figure:
        draw(findings, given.figure)


def _official(given: argparse.Namespace) -> None:
    from lit_prm.reports.best_of_n.official import official, official_json
    from lit_prm.reports.best_of_n.pool import read_pool
    from lit_prm.reports.best_of_n.show import show_official
    from lit_prm.reports.files import write_json

    if given.figure or given.pairs or given.counts or given.aggregate or given.weight:
        raise ValueError(
            "--compat official has its own numbers of candidates, aggregates and weights and neither figure nor "
            "intervals; leave --figure, --pairs, --counts, --aggregate and --weight out"
        )
    pool: CandidatePool = read_pool(given.files)
    told = official(pool)
    show_official(told)
    if given.json:
        write_json(given.json, official_json(pool, told))


def vote_weight(text: str) -> VoteWeight:
    """The weight that `softmax:0.5` names."""
    from lit_prm.evaluation.vote_weights import Rank, Sigmoid, Softmax, Unchanged

    name, _, number = text.partition(":")
    if name in ("rank", "sum") and not number:
        return Rank() if name == "rank" else Unchanged()
    try:
        value = float(number or 1)
        if name in ("sigmoid", "softmax") and 0 < value < float("inf"):
            return Sigmoid(value) if name == "sigmoid" else Softmax(value)
    except ValueError:
        pass  # told below
    raise ValueError(f"--weight {text!r} is none of sigmoid[:scale], softmax[:temperature], rank, sum; numbers are > 0")


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"--counts {text!r} is not like 1,2,4: whole numbers from 1, separated by commas")
    return tuple(int(part) for part in parts)
