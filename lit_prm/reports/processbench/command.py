"""`processbench FROM`: score the items of every subset once, judge them by the official protocol, print and keep it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_prm.scoring.options import CommandParser, add_scorer_options, loaded, refuse_scorer_options, seed_number

if TYPE_CHECKING:
    from lit_prm.reports.processbench.items import ItemFilter
    from lit_prm.scoring.scored_files import ScoredGroups

RESULTS = "processbench.json"
ABOUT = """ProcessBench: does a threshold, chosen on one subset, find the first wrong step of responses of the others?
Items are scored once, by their own steps; the results are printed and kept."""


def main(args: Sequence[str]) -> None:
    """Print the results as tables or as JSON, and keep them beside the scores."""
    options = parser().read(args)
    numbers = run(options)
    if options.json:
        print(json.dumps(numbers, indent=1))
        return
    from lit_prm.reports.processbench.report import show_numbers

    show_numbers(numbers)


def parser() -> CommandParser:
    made = CommandParser("processbench", description=ABOUT)
    add = made.add_argument
    add("source", metavar="FROM", help="what `score` takes, or a folder with a scored file <subset>.jsonl.gz of each")
    data = "(default: the folder LIT_PRM_DATA if it has a subset, else Qwen/ProcessBench)"
    add("--data", help=f"folder with processbench_<subset>.jsonl.gz, or a hub data set {data}")
    add("--subsets", nargs="+", help="default: all four; a step-labelled file of your own is named by its stem")
    add("--choose", default="gsm8k", help="the subset whose labels choose the threshold for all")
    asked = "a probability P by which to judge too, e.g. 0.5, as scripts of models do that classify steps"
    add("--threshold", type=_probability, metavar="P", help=f"{asked}; rewards are taken as log-odds")
    add("--limit", type=int, metavar="N", help="a sample of N items a subset, with its share of right responses")
    add("--seed", type=seed_number, default=0, help="seed of the sample")
    add("--compat", choices=["official"], help='put "Step i: " before each step, as the paper\'s script does')
    add("--out", type=Path, help="folder for the scores and processbench.json; a rerun reads the scores")
    add("--json", action="store_true", help="print JSON instead of tables")
    add_scorer_options(made)
    return made


def _probability(text: str) -> float:
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a probability between 0 and 1")
    return number


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Judge the subsets; returns ``report.as_numbers`` with the scorer's identity and writes `processbench.json`."""
    from lit_prm.reports.files import write_json
    from lit_prm.reports.processbench.items import SUBSETS, ItemFilter, is_folder_of_scores, read_subset
    from lit_prm.reports.processbench.protocol import judge
    from lit_prm.reports.processbench.report import as_numbers
    from lit_prm.reports.processbench.subset import Subset

    subsets = list(dict.fromkeys(options.subsets or SUBSETS))
    if options.choose not in subsets:
        raise ValueError(f"--choose {options.choose} is none of the --subsets {' '.join(subsets)}. Name it there too.")
    choice = ItemFilter(options.limit, options.seed, options.compat == "official")
    if is_folder_of_scores(options.source, subsets, choice):
        refuse_scorer_options(options, f"{options.source} is a folder of scores")
        folder = options.out or Path(options.source)
        scored = [read_subset(Path(options.source), name, choice) for name in subsets]
    else:
        folder = options.out or default_folder(options.source)
        scored = _score(options, folder, subsets, choice)
    given = options.threshold
    results = judge(
        [Subset.of(name, of) for name, of in zip(subsets, scored, strict=True)],
        options.choose,
        fixed=None if given is None else log(given / (1 - given)),
    )
    numbers = {"scorer": _one_identity(scored), "limit": options.limit, "seed": options.seed, "compat": options.compat}
    numbers |= ({} if given is None else {"fixed_probability": given}) | as_numbers(results)
    write_json(folder / RESULTS, numbers)
    return numbers


def default_folder(source: str) -> Path:
    """The folder below runs/processbench/ that is named after the scorer."""
    return Path("runs/processbench") / (re.sub(r"[^\w.]+", "-", source).strip("-.") or "scores")


def _score(options: argparse.Namespace, folder: Path, subsets: Sequence[str], choice: ItemFilter) -> list[ScoredGroups]:
    from lit_prm.reports.processbench.items import default_data, score_subset

    data = options.data or default_data()
    items = {name: choice.items(data, name) for name in subsets}  # before the model is loaded: a file may be missing
    scorer = loaded(options, detail="steps")
    for of in items.values():
        scorer.refuse_too_long(of)
    return [score_subset(scorer, of, folder / f"{choice.stem(name)}.jsonl.gz") for name, of in items.items()]


def _one_identity(scored: Sequence[ScoredGroups]) -> dict[str, Any]:
    first = scored[0]
    for other in scored[1:]:
        if other.identity != first.identity:
            raise ValueError(
                f"{first.source} and {other.source} are of two scorers, so no threshold holds for both. "
                "Score both with one."
            )
    return dict(first.identity)
