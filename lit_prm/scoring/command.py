"""The command `score`: rollouts in, rewards of their tokens, steps and responses out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_prm.scoring.options import add_scorer_options, count, loaded

if TYPE_CHECKING:
    from lit_prm.data.formats import Reading
    from lit_prm.data.records import Group
    from lit_prm.scoring.files import ScoringJob

ABOUT = """\
Rewards of every response of FILE: tokens, steps, the whole, and the text each stands for.

FROM: a run's folder, a checkpoint, an exported folder; a language model (folder or hub name) with --reference, an
adapter, a released implicit or tag-token PRM. FILE: any layout, as JSONL, JSON, Parquet, or a hub data set.
A killed job goes on where it was when it is started again, and ends with the same bytes."""


def main(args: Sequence[str]) -> None:
    """`score FROM FILE [--out scored.jsonl]`."""
    asked = _parser().parse_args(list(args))
    from lit_prm.data.formats import read_groups
    from lit_prm.scoring.files import ScoringJob, refuse_unfit_name

    refuse_unfit_name(asked.out)
    reading = read_groups(asked.file, on_bad="skip" if asked.skip_bad_rows else "raise")
    groups = _with_responses(reading, asked.limit)
    if asked.out.resolve() == Path(asked.file).resolve():
        raise ValueError(f"--out {asked.out} is the file of the responses; give another name")
    scorer = loaded(asked, steps=asked.steps, aggregate=asked.aggregate, detail=asked.detail)
    job = ScoringJob(scorer, groups, asked.out)
    if job.is_finished():
        print(f"{asked.out} holds these scores already; remove it to score again")
        return
    scorer.check(groups)
    _watch(job)
    print(f"{asked.out}: {len(groups)} problems, {sum(len(g.rollouts) for g in groups)} responses")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lit_prm score", description=ABOUT, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("source", metavar="FROM", help="whose rewards: a run, an export, a model")
    parser.add_argument("file", metavar="FILE", help="the rollouts")
    kinds = ".jsonl, .jsonl.gz or .parquet (default: scored.jsonl)"
    parser.add_argument("--out", type=Path, default=Path("scored.jsonl"), help=kinds)
    parser.add_argument("--steps", help="step rule by its class name: BlankLine, Newline, Marked, Sentence, EachToken")
    parser.add_argument("--aggregate", help="which of a response's scores is the primary one: min, sum, mean, ...")
    parser.add_argument("--detail", choices=["tokens", "steps"], default="tokens", help="the finest rewards to keep")
    parser.add_argument("--limit", type=count, help="the first problems only")
    parser.add_argument(
        "--skip-bad-rows", "--skip_bad_rows", action="store_true", help="leave out rows that fit no layout"
    )
    add_scorer_options(parser)
    return parser


def _with_responses(reading: Reading, limit: int | None) -> Sequence[Group]:
    if reading.refused:
        print(f"{len(reading.refused)} of {reading.rows} rows left out, the first: {reading.refused[0].reason}")
    able = [group for group in reading.groups if group.rollouts][:limit]
    if not able:
        raise ValueError(
            f"{reading.source} holds problems without responses ({reading.layout}), so there is nothing to score; "
            "sample some first, or give a file of rollouts"
        )
    return able


def _watch(job: ScoringJob) -> None:
    """Run the job behind a bar."""
    from lit_prm.scoring.progress import bar

    done = 0
    with bar("responses", sum(len(group.rollouts) for group in job.groups)) as told:
        for groups in job.run():
            done += sum(len(group.rollouts) for group in groups)
            told(done, "")
