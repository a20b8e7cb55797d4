"""`processbench FROM`: score the items of the subsets once, judge them by the official protocol, print and keep it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_prm.reports.processbench.items import SUBSETS, default_data
from lit_prm.scoring.options import add_scorer_options, loaded, refuse_scorer_options

if TYPE_CHECKING:
    from lit_prm.reports.processbench.scores import ItemFilter
    from lit_prm.scoring.scored_files import ScoredGroups

RESULTS = "processbench.json"
ABOUT = """Is the first wrong step of a response found, by a threshold chosen on another subset?
Items are scored by their own steps, once; the results are printed and kept."""


def main(args: Sequence[str]) -> None:
    """Print the results as tables, or as JSON; they are kept beside the scores either way."""
    known = parser().parse_args(list(args))
    numbers = run(known)
    if known.json:
        print(json.dumps(numbers, indent=1))
        return
    from lit_prm.reports.processbench.report import show_numbers

    show_numbers(numbers)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m lit_prm processbench", description=ABOUT, allow_abbrev=False)
    add = made.add_argument
    add("source", metavar="FROM", help="what `score` takes, or a folder with a scored file <subset>.jsonl.gz of each")
    add("--data", help=f"folder with processbench_<subset>.jsonl.gz, or a hub data set (default: {default_data()})")
    add("--subsets", nargs="+", default=list(SUBSETS), help="a step-labelled file of your own goes by its stem")
    add("--choose", default="gsm8k", help="the subset whose labels choose the threshold for all")
    add("--limit", type=int, metavar="N", help="a sample of N items a subset, with its share of right responses")
    add("--seed", type=int, default=0, help="of the sample")
    add("--compat", choices=["official"], help='"Step i: " before each step, as the paper\'s script has it')
    add("--out", type=Path, help="folder of the scores, which a rerun reads, and of processbench.json")
    add("--json", action="store_true", help="print JSON instead of tables")
    add_scorer_options(made)
    return made


def run(known: argparse.Namespace) -> dict[str, Any]:
    """The numbers of ``report.as_numbers`` with the scorer's identity, also left as ``processbench.json``."""
    from lit_prm.reports.files import write_json
    from lit_prm.reports.processbench.protocol import judge
    from lit_prm.reports.processbench.report import as_numbers
    from lit_prm.reports.processbench.scores import ItemFilter, is_folder_of_scores, read_subset
    from lit_prm.reports.processbench.subset import Subset

    subsets = list(dict.fromkeys(known.subsets))
    if known.choose not in subsets:
        raise ValueError(f"--choose {known.choose} is none of the --subsets {' '.join(subsets)}; name it there too")
    choice = ItemFilter(known.limit, known.seed, known.compat == "official")
    if is_folder_of_scores(known.source, subsets, choice):
        refuse_scorer_options(known, f"{known.source} is a folder of scores")
        folder = known.out or Path(known.source)
        scored = [read_subset(Path(known.source), name, choice) for name in subsets]
    else:
        folder = known.out or default_folder(known.source)
        scored = _made(known, folder, subsets, choice)
    results = judge([Subset.of(name, of) for name, of in zip(subsets, scored, strict=True)], known.choose)
    numbers = {"scorer": _one_identity(scored), "limit": known.limit, "seed": known.seed, "compat": known.compat}
    numbers |= as_numbers(results)
    write_json(folder / RESULTS, numbers)
    return numbers


def default_folder(source: str) -> Path:
    """Under runs/processbench/, named after what is scored."""
    return Path("runs/processbench") / (re.sub(r"[^\w.]+", "-", source).strip("-.") or "scores")


def _made(known: argparse.Namespace, folder: Path, subsets: Sequence[str], choice: ItemFilter) -> list[ScoredGroups]:
    from lit_prm.reports.processbench.scores import score_subset

    data = known.data or default_data()
    items = {name: choice.items(data, name) for name in subsets}  # a missing file is told before the model is loaded
    scorer = loaded(known, detail="steps")
    for of in items.values():
        scorer.refuse_too_long(of)
    return [score_subset(scorer, of, folder / f"{choice.stem(name)}.jsonl.gz") for name, of in items.items()]


def _one_identity(scored: Sequence[ScoredGroups]) -> dict[str, Any]:
    first = scored[0]
    for other in scored[1:]:
        if other.identity != first.identity:
            raise ValueError(
                f"{first.source} and {other.source} are of two scorers, so no threshold carries over; score them alike"
            )
    return dict(first.identity)
