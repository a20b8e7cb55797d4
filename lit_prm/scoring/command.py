"""The command `score`: reads rollouts, writes rewards of their tokens, steps and responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_prm.scoring.options import CommandParser, add_scorer_options, count, loaded

if TYPE_CHECKING:
    from lit_prm.data.formats import Reading
    from lit_prm.data.records import Group
    from lit_prm.scoring.base import Scorer

ABOUT = """\
Writes the rewards of every response in FILE: of its tokens, of its steps and of the whole, each with its text span.

FROM: a run's folder, a checkpoint, an exported folder; a language model (folder or hub name) with --reference, an
adapter, a released implicit or tag-token PRM. FILE: any layout, as JSONL, JSON, Parquet, or a hub data set.
Start an interrupted job again with the same command: it continues, and the file ends with the same bytes."""


def main(args: Sequence[str]) -> None:
    """`score FROM FILE [--out scored.jsonl]`."""
    arguments = _parser().read(args)
    from lit_prm.data.formats import read_groups
    from lit_prm.scoring.files import ScoringJob, refuse_unfit_name
    from lit_prm.scoring.progress import bar
    from lit_prm.scoring.scored_files import read_scored, shortfalls

    refuse_unfit_name(arguments.out)
    reading = read_groups(arguments.file, on_bad="skip" if arguments.skip_bad_rows else "raise")
    groups = _with_responses(reading, arguments.limit)
    scorer = loaded(arguments, steps=arguments.steps, aggregate=arguments.aggregate, detail=arguments.detail)
    if arguments.skip_bad_rows:
        groups = _fitting(scorer, groups)
    groups = scorer.written_out(groups)
    job = ScoringJob(scorer, groups, arguments.out)
    if job.is_finished():
        print(f"{arguments.out} holds these scores already. Remove it to score again.")
        return
    scorer.check(groups)
    with bar("responses", sum(len(group.rollouts) for group in groups)) as update:
        done = 0
        for scored in job.run():
            done += sum(len(group.rollouts) for group in scored)
            update(done, "")
    print(f"{arguments.out}: {len(groups)} problems, {sum(len(g.rollouts) for g in groups)} responses")
    for line in shortfalls(read_scored(str(arguments.out)).rewards):
        print(line)


def _parser() -> CommandParser:
    parser = CommandParser("score", description=ABOUT)
    add = parser.add_argument
    add("source", metavar="FROM", help="the reward model: a run, an export, a model")
    add("file", metavar="FILE", help="the rollouts")
    add("--out", type=Path, default=Path("scored.jsonl"), help=".jsonl, .jsonl.gz, .parquet (default: scored.jsonl)")
    add("--steps", help="step rule by its class name: BlankLine, Newline, Marked, Sentence, EachToken")
    add("--aggregate", help="how step rewards become a response's score: min, sum, mean, ...")
    add("--detail", choices=["tokens", "steps"], default="tokens", help="the finest rewards to write")
    add("--limit", type=count, help="score only this many problems, the first ones")
    add("--skip-bad-rows", action="store_true", help="skip rows that fit no layout")
    add_scorer_options(parser)
    return parser


def _fitting(scorer: Scorer, groups: Sequence[Group]) -> Sequence[Group]:
    """The groups whose prompt leaves room for a response; the number of the others is printed."""
    kept = scorer.fitting(groups)
    if len(kept) < len(groups):
        print(f"{len(groups) - len(kept)} of {len(groups)} problems were skipped: their prompts fill --max-length")
    if not kept:
        scorer.refuse_too_long(groups)
    return kept


def _with_responses(reading: Reading, limit: int | None) -> Sequence[Group]:
    """The first ``limit`` groups that have responses."""
    if reading.refused:
        print(f"{len(reading.refused)} of {reading.rows} rows were skipped, the first: {reading.refused[0].reason}")
    groups = [group for group in reading.groups if group.rollouts][:limit]
    if not groups:
        raise ValueError(
            f"{reading.source} holds problems without responses ({reading.layout}), so there is nothing to score. "
            "Sample responses first, or give a file of rollouts."
        )
    return groups
